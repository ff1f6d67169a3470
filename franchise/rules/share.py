"""What a franchisee gets of one session: pure arithmetic in whole paise.

    gross               = amount_paid - platform_fee        what the rider paid for energy
    net_excl_gst        = gross - refund - pg_fee - gst     asserted equal to the billed energy charge - pg_fee
    share               = net_excl_gst x share_bp           rounded half up, once
    platform_commission = net_excl_gst - share              by subtraction: the two always sum to the net
    tds                 = share x tds_bp                    rounded half up, once
    payable             = share - tds                       = net_excl_gst - platform_commission - tds

`refund` is everything the rider paid and did not use: what goes back, and the remainder under one rupee that Razorpay
cannot refund. `pg_fee` is Razorpay's fee where the contract puts it on the franchisee, else 0.

Base of the TDS. In these books the network is the supplier: it bills the rider, collects the GST and pays the
franchisee, so tax is deducted from what is credited to the franchisee, their share (before TDS), at the contract's
rate. Section 194-O speaks of the gross sale of a participant who sells through an operator's platform; where a contract
falls under it, its `tds_bp` must be stated against the share (0.1 % of a sale of which 70 % is the share: 14 bp).

A fee larger than the energy (a rider pays Rs 500 and takes 50 paise' worth) makes the net negative. Nobody is asked to
pay for having delivered energy: share, TDS and payable are 0, and the commission is the negative net. The platform
bears it, and `loss` says how much. The loss is not carried over to other sessions.
"""

from dataclasses import dataclass

from billing.rules.money import percent


@dataclass(frozen=True)
class Terms:
    """What the contract says. Basis points: 7000 is 70 %, 10 is 0.1 %."""

    share_bp: int
    tds_bp: int
    fee_borne_by_franchisee: bool


@dataclass(frozen=True)
class Share:
    """One session's money, paise. `final` is False while a fee that the franchisee bears is unknown (taken as 0)."""

    gross: int
    refund: int
    pg_fee: int
    gst_collected: int
    net_excl_gst: int
    platform_commission: int
    tds: int
    payable: int
    final: bool

    @property
    def share(self) -> int:
        """The franchisee's part before TDS."""
        return self.payable + self.tds

    @property
    def loss(self) -> int:
        """What the platform loses because the fee was larger than the energy; 0 as a rule."""
        return max(0, -self.net_excl_gst)


def split(
    *, amount_paid: int, platform_fee: int, refund: int, gst: int, energy_charge: int, razorpay_fee: int | None, terms: Terms
) -> Share:
    """Share one billed session. All amounts in paise; `razorpay_fee` None is unknown, 0 is a value.

    Raises ValueError when the bill does not explain the payment.
    """
    gross = amount_paid - platform_fee
    if gross - refund - gst != energy_charge:
        raise ValueError(f"the bill does not explain the payment: {gross} - {refund} - {gst} is not {energy_charge}")
    fee = razorpay_fee if terms.fee_borne_by_franchisee else 0
    pg_fee = fee or 0
    net = gross - refund - pg_fee - gst
    assert net == energy_charge - pg_fee, (net, energy_charge, pg_fee)
    share = percent(net, terms.share_bp) if net > 0 else 0
    tds = percent(share, terms.tds_bp)
    return Share(
        gross=gross,
        refund=refund,
        pg_fee=pg_fee,
        gst_collected=gst,
        net_excl_gst=net,
        platform_commission=net - share,
        tds=tds,
        payable=share - tds,
        final=fee is not None,
    )
