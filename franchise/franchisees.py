"""Franchisees as the operator knows them: taken in, given chargers, linked to their bank account, held and released."""

import re
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from django.contrib.auth.password_validation import validate_password
from django.core.exceptions import ValidationError
from django.core.validators import validate_email
from django.db import transaction
from django.utils.crypto import get_random_string

from accounts import audit
from accounts.models import Company, Membership, User
from accounts.roles import Role
from csms.models import ChargePoint
from franchise import gates, payouts, settlements
from franchise.models import Contract, Franchisee, LinkedAccount, Ownership
from franchise.rules import gate
from voltaro import clock, jobs

PAN = re.compile(r"[A-Z]{5}[0-9]{4}[A-Z]")
GSTIN = re.compile(r"[0-9]{2}([A-Z]{5}[0-9]{4}[A-Z])[0-9A-Z]Z[0-9A-Z]")
ACCOUNT = re.compile(r"acc_[A-Za-z0-9]{6,36}")
PRODUCT = re.compile(r"acc_prd_[A-Za-z0-9]{6,32}")
# Razorpay's own rule for a new account, and ours for a changed one: time for the owner to notice.
COOLING = timedelta(hours=24)
GENERATED = "generated"


@dataclass
class Wish:
    """What is asked of `add`; None leaves it as it is (or as the contract's defaults are). Basis points."""

    name: str
    network: str | None = None
    contact_name: str | None = None
    email: str | None = None
    phone: str | None = None
    pan: str | None = None
    gstin: str | None = None
    state: str | None = None
    share_bp: int | None = None
    tds_bp: int | None = None
    fee_borne_by: str | None = None
    linked_account: str | None = None
    product: str | None = None
    activated: bool = False
    username: str | None = None
    password: str | None = None


@dataclass
class Added:
    """What came of it. `password` is there only when it was generated now: it is shown once."""

    franchisee: Franchisee
    contract: Contract
    created: bool
    user: User | None = None
    password: str | None = None
    changes: list[str] = field(default_factory=list)


@transaction.atomic
def add(wish: Wish, now: datetime | None = None) -> Added:
    """Take a franchisee in, or bring what we know of them up to date. Asking twice changes nothing the second time.

    Raises ValidationError, with a sentence for each thing that is wrong.
    """
    now = now or clock.now()
    _check(wish)
    company, created = Company.objects.select_for_update().get_or_create(
        name=wish.name.strip(), defaults={"parent": network_company(wish.network)}
    )
    if not created and company.parent_id is None:
        raise ValidationError(f"{company.name} is a network, not a franchisee.")
    company_changes = _write(company, gstin=wish.gstin, state=wish.state)
    franchisee, new = Franchisee.objects.get_or_create(company=company)
    changes = _write(franchisee, contact_name=wish.contact_name, email=wish.email, phone=wish.phone, pan=wish.pan)
    added = Added(franchisee, _contract(franchisee, wish, now), new, changes=company_changes + changes)
    if wish.linked_account:
        link_account(franchisee, wish.linked_account, product_id=wish.product or "", activated=wish.activated, now=now)
    if wish.username:
        added.user, added.password = _portal_user(company, wish)
    if new or added.changes:
        audit.record("franchisee.added" if new else "franchisee.changed", franchisee, after={"changed": added.changes})
    return added


def network_company(name: str | None = None) -> Company:
    """The company that runs the chargers: the one named, or the only one there is; made when there is none.

    Raises ValidationError when there are several and none is named, or the named one is a franchisee.
    """
    roots = Company.objects.filter(parent__isnull=True, franchisee__isnull=True)
    if name:
        found, _ = Company.objects.get_or_create(name=name.strip())
        if found.parent_id is not None or Franchisee.objects.filter(company=found).exists():
            raise ValidationError(f"{found.name} is a franchisee, not a network.")
        return found
    match list(roots[:2]):
        case []:
            return Company.objects.create(name="Voltaro")
        case [only]:
            return only
    raise ValidationError("There are several networks; say which one the franchisee belongs to (--network NAME).")


@transaction.atomic
def assign(charge_point: ChargePoint, franchisee: Franchisee | None, now: datetime | None = None) -> bool:
    """Give a charger to a franchisee (None: back to the network). False when it was theirs already.

    `ChargePoint.company` follows; sessions and shares keep the owner they began with.
    """
    now = now or clock.now()
    charge_point = ChargePoint.objects.select_for_update(of=("self",), no_key=True).get(pk=charge_point.pk)
    open_row = Ownership.objects.select_for_update().filter(charge_point=charge_point, owned_to__isnull=True).first()
    if franchisee is not None:
        company = franchisee.company
    elif open_row is not None:
        company = open_row.franchisee.company.parent or network_company()
    else:
        return False
    if (
        open_row is not None
        and franchisee is not None
        and open_row.franchisee_id == franchisee.pk
        and charge_point.company_id == company.pk
    ):
        return False
    before = {"company": charge_point.company_id}
    if open_row is not None and (franchisee is None or open_row.franchisee_id != franchisee.pk):
        open_row.owned_to = now
        open_row.save(update_fields=["owned_to"])
        open_row = None
    if open_row is None and franchisee is not None:
        Ownership.objects.create(charge_point=charge_point, franchisee=franchisee, owned_from=now)
    charge_point.company = company
    charge_point.save(update_fields=["company"])
    audit.record("charge_point.assigned", charge_point, before=before, after={"company": company.pk})
    return True


@transaction.atomic
def link_account(
    franchisee: Franchisee, razorpay_id: str, *, product_id: str = "", activated: bool = False, now: datetime | None = None
) -> LinkedAccount:
    """The Razorpay Route account that payouts go to. `activated`: the operator has seen that Razorpay activated it, and for the
    first account of a franchisee that this is a day ago or more.

    A new account rests for a day, since Razorpay would refuse. So does another one than before, and payouts not yet asked for the
    old one are taken back; one that was asked and did not happen goes to the new one (payouts._leave).
    """
    now = now or clock.now()
    # Whoever makes a payout holds this row: the payout is made before the recall below, or after this commits.
    Franchisee.objects.select_for_update(of=("self",), no_key=True).get(pk=franchisee.pk)
    if LinkedAccount.objects.filter(razorpay_id=razorpay_id).exclude(franchisee=franchisee).exists():
        raise ValidationError(f"{razorpay_id} is the linked account of another franchisee.")
    account = LinkedAccount.objects.select_for_update(of=("self",)).filter(franchisee=franchisee).first()
    before = _account_facts(account)
    if account is None:
        account = LinkedAccount(franchisee=franchisee, razorpay_id=razorpay_id, ask_at=now, status_at=now)
        account.usable_from = None if activated else now + COOLING
    elif account.razorpay_id != razorpay_id:
        account.razorpay_id, account.product_id, account.missing = razorpay_id, "", ""
        account.status, account.status_at, account.ask_at = LinkedAccount.Status.REQUESTED, now, now
        account.usable_from = now + COOLING
        payouts.recall(franchisee, "the linked account was changed before this was asked")
    if product_id:
        account.product_id = product_id
    if activated and account.status != LinkedAccount.Status.ACTIVATED:
        account.status, account.status_at = LinkedAccount.Status.ACTIVATED, now
    if _account_facts(account) != before:
        account.save()
        audit.record("linked_account.set", account, before=before, after=_account_facts(account))
        jobs.ring("gate.opened")
    franchisee.linked_account = account
    return account


@transaction.atomic
def hold(franchisee: Franchisee, reason: str, now: datetime | None = None) -> bool:
    """Stop a franchisee's payouts: what waits is held, what was asked goes on. False when they were held already."""
    franchisee = Franchisee.objects.select_for_update(of=("self",), no_key=True).get(pk=franchisee.pk)
    if franchisee.payouts_on_hold:
        return False
    franchisee.payouts_on_hold, franchisee.hold_reason = True, reason[:200]
    franchisee.save(update_fields=["payouts_on_hold", "hold_reason"])
    held = gates.shut(franchisee, gate.HELD)
    audit.record("franchisee.held", franchisee, after={"reason": reason[:200], "entries": held})
    return True


@transaction.atomic
def release(franchisee: Franchisee, now: datetime | None = None) -> bool:
    """Let a franchisee's payouts go on; the held shares follow at the next look. False when nothing was held."""
    franchisee = Franchisee.objects.select_for_update(of=("self",), no_key=True).get(pk=franchisee.pk)
    if not franchisee.payouts_on_hold:
        return False
    reason = franchisee.hold_reason
    franchisee.payouts_on_hold, franchisee.hold_reason = False, ""
    franchisee.save(update_fields=["payouts_on_hold", "hold_reason"])
    audit.record("franchisee.released", franchisee, before={"reason": reason})
    jobs.ring("gate.opened")
    return True


# -- helpers --------------------------------------------------------------------------------------------------
def _check(wish: Wish) -> None:
    wrong: list[str] = []
    if not wish.name.strip():
        wrong.append("The name is empty.")
    for name, pattern, example in (("pan", PAN, "ABCDE1234F"), ("gstin", GSTIN, "29ABCDE1234F1Z5")):
        value = getattr(wish, name)
        if value and not pattern.fullmatch(value):
            wrong.append(f"{name.upper()} {value} does not look like {example}.")
    if wish.pan and wish.gstin and (inside := GSTIN.fullmatch(wish.gstin)) and inside[1] != wish.pan:
        wrong.append(f"The GSTIN belongs to PAN {inside[1]}, not to {wish.pan}.")
    for name, pattern, example in (("linked_account", ACCOUNT, "acc_H9nVQ4dYqkJv3B"), ("product", PRODUCT, "acc_prd_HEgNpywUFctQ9e")):
        value = getattr(wish, name)
        if value and not pattern.fullmatch(value):
            wrong.append(f"{value} is not an id like {example}.")
    if (wish.product or wish.activated) and not wish.linked_account:
        wrong.append("A product or an activation belongs to a linked account: name it too.")
    for name in ("share_bp", "tds_bp"):
        value = getattr(wish, name)
        if value is not None and not 0 <= value <= 10_000:
            wrong.append(f"{'The share' if name == 'share_bp' else 'TDS'} must be between 0 and 100 percent.")
    if wish.fee_borne_by is not None and wish.fee_borne_by not in Contract.FeeBorneBy.values:
        wrong.append(f"The fee is borne by {' or '.join(Contract.FeeBorneBy.values)}, not by {wish.fee_borne_by}.")
    if wish.password and not wish.username:
        wrong.append("A password belongs to a user: name one.")
    if wish.email:
        try:
            validate_email(wish.email)
        except ValidationError:
            wrong.append(f"{wish.email} is not an e-mail address.")
    if wrong:
        raise ValidationError(wrong)


def _write(row: Company | Franchisee, **given: str | None) -> list[str]:
    """Set what was given and differs; the names of what changed."""
    changed = [name for name, value in given.items() if value is not None and getattr(row, name) != value]
    for name in changed:
        setattr(row, name, given[name])
    if changed:
        row.save(update_fields=changed)
    return changed


def _contract(franchisee: Franchisee, wish: Wish, now: datetime) -> Contract:
    """The contract in force; a new one from now on when other terms are asked."""
    current = settlements.contract_at(franchisee, now)
    terms: dict[str, Any] = {name: getattr(wish, name) for name in ("share_bp", "tds_bp", "fee_borne_by")}
    for name in terms:
        if terms[name] is None:
            terms[name] = getattr(current, name) if current else Contract._meta.get_field(name).default
    if current is not None and all(getattr(current, name) == value for name, value in terms.items()):
        return current
    contract = Contract.objects.create(franchisee=franchisee, valid_from=now, **terms)
    audit.record("contract.made", contract, after={**terms, "valid_from": now.isoformat()})
    return contract


def _portal_user(company: Company, wish: Wish) -> tuple[User, str | None]:
    """The person who signs in at the portal; a password is shown only when it was generated for a new user."""
    user = User.objects.filter(username=wish.username).first()
    shown: str | None = None
    if user is None:
        user = User(username=wish.username, email=wish.email or "")
        password = wish.password or GENERATED
        if password == GENERATED:
            password = shown = get_random_string(16)
        validate_password(password, user)
        user.set_password(password)
        user.save()
    elif user.is_superuser or user.memberships.exclude(company=company).exists():
        raise ValidationError(f"The user {user.username} already belongs elsewhere; choose another name.")
    elif wish.password and wish.password != GENERATED and not user.check_password(wish.password):
        validate_password(wish.password, user)
        user.set_password(wish.password)
        user.save(update_fields=["password"])
        audit.record("user.password_set", user)
    Membership.objects.get_or_create(user=user, company=company, role=Role.FRANCHISEE)
    return user, shown


def _account_facts(account: LinkedAccount | None) -> dict[str, Any]:
    if account is None:
        return {}
    return {name: getattr(account, name) for name in ("razorpay_id", "product_id", "status")}
