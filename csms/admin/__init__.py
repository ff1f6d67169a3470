"""The network in the console: what stands where is edited here (network); what happened is only read (log)."""

from csms.admin import log, network

__all__ = ["log", "network"]
