"""The network in the console: what stands where is edited here (network); what happened is only read (log)."""

from csms.admin import files, log, network, quirks, security, tags

__all__ = ["files", "log", "network", "quirks", "security", "tags"]
