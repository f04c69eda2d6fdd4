"""Records of a made-up business, none like the other."""

import itertools

_FIELDS = (  # noqa: SIM905 - read as a list of words
    "status total amount currency customer address street city order item quantity price note email phone department "
    "createdBy updatedBy is_active unit_price tax_rate shippingMethod delivery_window warehouse supplier category "
    "description rating reviews temperature humidity sensor firmware_version last_seen battery_level"
).split()
_WORDS = (  # noqa: SIM905
    "pending active blocked archived harbour lantern copper north mill station evening blue heavy spare urgent "
    "returned fragile winter local express confirmed workshop"
).split()
_NAMES = ("Agadir", "Bergen", "Cadiz", "Dresden", "Esbjerg", "Faro", "Genoa", "Haifa", "Izmir", "Jena")


def records(chance):
    """Return records with the same fields."""
    fields = chance.sample(_FIELDS, chance.randrange(3, 9))
    makers = [chance.choice(_MAKERS) for _ in fields]
    first = chance.randrange(10 ** chance.randrange(1, 8))
    made = [
        {"id": number, **{field: make(chance) for field, make in zip(fields, makers, strict=True)}}
        for number in itertools.islice(itertools.count(first), chance.randrange(4, 14))
    ]
    return made if chance.random() < 0.6 else {"data": made, "page": chance.randrange(50), "next": None}


def _sentence(chance):
    return " ".join(chance.choices(_WORDS, k=chance.randrange(2, 12)))


def _date(chance):
    day = f"20{chance.randrange(10, 30)}-{chance.randrange(1, 13):02}-{chance.randrange(1, 29):02}"
    return f"{day}T{chance.randrange(24):02}:{chance.randrange(60):02}:00Z" if chance.random() < 0.5 else day


def _identifier(chance):
    return f"{chance.getrandbits(32):08x}-{chance.getrandbits(16):04x}-{chance.getrandbits(16):04x}"


_MAKERS = (
    _sentence,
    _sentence,
    _date,
    _identifier,
    lambda chance: chance.choice(_WORDS),
    lambda chance: chance.choice(_NAMES),
    lambda chance: chance.choice((True, False, None)),
    lambda chance: chance.randrange(10 ** chance.randrange(1, 7)),
    lambda chance: round(chance.uniform(-500, 500), chance.randrange(1, 6)),
    lambda chance: chance.sample(_WORDS, chance.randrange(4)),
    lambda chance: f"{chance.choice(_NAMES).lower()}@{chance.choice(_WORDS)}.example",
    lambda chance: {"lat": round(chance.uniform(-90, 90), 4), "lon": round(chance.uniform(-180, 180), 4)},
)
