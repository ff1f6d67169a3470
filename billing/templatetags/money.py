"""How money is shown: rupees with Indian grouping, from whole paise."""

from django import template

register = template.Library()


@register.filter
def rupees(paise: int | None) -> str:
    """12345650 -> ₹1,23,456.50; None is a dash."""
    if paise is None:
        return "–"
    sign, paise = ("-" if paise < 0 else ""), abs(int(paise))
    whole, rest = str(paise // 100), paise % 100
    head, tail = whole[:-3], whole[-3:]
    groups = [tail]
    while head:
        groups.insert(0, head[-2:])
        head = head[:-2]
    return f"{sign}₹{','.join(groups)}.{rest:02d}"
