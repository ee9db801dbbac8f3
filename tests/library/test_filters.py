"""Filters: one grammar, the same meaning in Python and in SQL, and an answer where nothing is left."""

from __future__ import annotations

import sqlite3
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from imgret_tools.errors import BadInput
from imgret_tools.library.filters import (
    BETWEEN_WORDS,
    FIELDS,
    KEYED,
    Condition,
    Kind,
    Operator,
    fold,
    holds,
    matching_rows,
    nearest_values,
    nothing_holds,
    parse_where,
    split_where,
    where_sql,
)
from imgret_tools.records import Scalar, visible

Entry = Mapping[str, Scalar]

SQL_TYPES = {"text": "TEXT", "code": "TEXT", "words": "TEXT", "number": "NUMERIC", "date": "TEXT", "flag": "INTEGER"}


def catalogue(entries: Sequence[Entry]) -> sqlite3.Connection:
    """A table `entries` as the library keeps it, a row an entry, numbered from 0."""
    connection = sqlite3.connect(":memory:")
    columns = {name: SQL_TYPES[kind] for name, kind in FIELDS.items()} | {f"{name}_key": "TEXT" for name in KEYED}
    connection.execute(
        f"CREATE TABLE entries (row INTEGER PRIMARY KEY, {', '.join(f'{name} {type_}' for name, type_ in columns.items())})"
    )
    for row, entry in enumerate(entries):
        values = {name: entry.get(name) for name in FIELDS}
        values |= {f"{name}_key": None if entry.get(name) is None else fold(str(entry[name])) for name in KEYED}
        connection.execute(
            f"INSERT INTO entries VALUES (?{', ?' * len(columns)})", [row, *(values[name] for name in columns)]
        )
    return connection


def rows(connection: sqlite3.Connection, conditions: Sequence[Condition]) -> list[int]:
    return matching_rows(connection, conditions).tolist()


def satisfied(where: object, entry: Entry) -> bool:
    """Whether the entry satisfies the filter, said alike by Python and by SQL."""
    conditions = parse_where(where)  # type: ignore[arg-type]
    said = all(holds(condition, entry) for condition in conditions)
    connection = catalogue([entry])
    assert (rows(connection, conditions) == [0]) == said
    connection.close()
    return said


# Reading


@pytest.mark.parametrize(
    ("line", "found"),
    [
        ("label=dog", [("label", "=", ("dog",))]),
        ("  Label = dog | cat ", [("label", "=", ("dog", "cat"))]),
        ("label=a, width>=100", [("label", "=", ("a",)), ("width", ">=", (100,))]),
        ("label=a,width>=100,", [("label", "=", ("a",)), ("width", ">=", (100,))]),
        ("label=salt, pepper, width>=100", [("label", "=", ("salt, pepper",)), ("width", ">=", (100,))]),
        (r"label=salt\, width>=100", [("label", "=", ("salt, width>=100",))]),
        ('label="salt, width>=100", height<5', [("label", "=", ("salt, width>=100",)), ("height", "<", (5,))]),
        (r"label=R&B\|Soul", [("label", "=", ("R&B|Soul",))]),
        ('label="R&B|Soul"|Jazz', [("label", "=", ("R&B|Soul", "Jazz"))]),
        ('label="R&B|Soul" | Jazz', [("label", "=", ("R&B|Soul", "Jazz"))]),
        (r"label=\"so called\"", [("label", "=", ('"so called"',))]),
        (r'label="so \"called\""', [("label", "=", ('so "called"',))]),
        ('label=7" vinyl', [("label", "=", ('7" vinyl',))]),
        (r"folder=C:\photos\2024", [("folder", "=", (r"C:\photos\2024",))]),
        (r"folder=\\nas\photos, width>1", [("folder", "=", (r"\\nas\photos",)), ("width", ">", (1,))]),
        (r'folder="C:\\photos\\"|D:\a', [("folder", "=", ("C:\\photos\\", r"D:\a"))]),
        ("label==1+1", [("label", "=", ("=1+1",))]),
        ("label=", [("label", "=", ("",))]),
        ('label=""', [("label", "=", ("",))]),
        ("label=, width>1", [("label", "=", ("",)), ("width", ">", (1,))]),
        ("width=300.0", [("width", "=", (300.0,))]),
        ("latitude>=-.5e1", [("latitude", ">=", (-5.0,))]),
        ("taken<=2024-06-15 23:59", [("taken", "<=", ("2024-06-15T23:59",))]),
        ("taken=2024|2024-06-15T12:30:45", [("taken", "=", ("2024", "2024-06-15T12:30:45"))]),
        ("away=YES", [("away", "=", (True,))]),
        ("away!=no", [("away", "!=", (False,))]),
        ('["label=a", "width>=100"]', [("label", "=", ("a",)), ("width", ">=", (100,))]),
        ('{"label": "R&B|Soul", "width": 300}', [("label", "=", ("R&B|Soul",)), ("width", "=", (300,))]),
        ("", []),
        (" , ", []),
    ],
)
def test_a_line_reads_as_its_conditions(line: str, found: list[tuple[str, str, tuple[Scalar, ...]]]) -> None:
    assert [(one.field, one.operator, one.values) for one in parse_where(line)] == found
    assert parse_where([line]) == parse_where(line)
    assert parse_where(split_where(line)) == parse_where(line)


def test_lists_and_mappings_read_as_lines_do() -> None:
    assert parse_where(None) == ()
    assert parse_where(["label=a, width>=100", "height<5"]) == parse_where("label=a,width>=100,height<5")
    assert parse_where({"label": "a|b", "width": 300.0, "away": False, "camera": None}) == parse_where(
        'label="a|b", width=300, away=no, camera='
    )


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("label", "not of the form field=value"),
        ("; drop table", "not of the form"),
        ("label=dog, ; drop table=1", "nobody"),
        ("lable=dog", "did you mean label"),
        ("label>=dog", "label holds text and takes =, !=, ~, not >="),
        ("width~19", "width holds numbers"),
        ("taken~2024", "taken holds dates"),
        ("away>yes", "away is yes or no"),
        ("width>=wide", '\'?"?wide"? is no number; write 1000'),
        ("width=1,000", "is no number"),
        ("width=nan", "is no number"),
        ("width=1e999", "is no number"),
        ("width=１２", "is no number"),
        ("width=1_000", "is no number"),
        ("width>=1|2", "takes one value, found 2"),
        ("width>=", "has no value"),
        ("path~", "has no value"),
        ("path~a|", "has no value"),
        ("away=perhaps", "neither yes nor no"),
        ('label="dog', "quote that does not close"),
        ('label="dog" and cat', "quote that does not close at its end"),
        ("label=\udcff", "plain Unicode"),
        ("label=a\0b", "plain Unicode"),
        pytest.param("path~" + "x" * 60_000, "60000 characters", id="long"),
        pytest.param("path~a" + "|b" * 2000, "2001 values", id="many"),
        pytest.param("path~a" + ", path~b" * 2000, "2001 values", id="many conditions"),
        ('["label=dog", 5]', "JSON list"),
        ('["label=dog"', "JSON list"),
    ],
)
def test_what_cannot_be_read_is_refused_in_one_line_that_says_why(line: str, message: str) -> None:
    if message == "nobody":  # no field follows that comma, so it belongs to the value
        assert parse_where(line)[0].values == ("dog, ; drop table=1",)
        return
    with pytest.raises(BadInput, match=message) as refused:
        parse_where(line)
    assert visible(str(refused.value)) == str(refused.value)


@pytest.mark.parametrize(
    "date",
    [
        "2024-6", "15/06/2024", "2024:06:15", "06/15/2024", "2024-13", "2024-02-30", "0000", "24", "2024-06-15 24:00",
        "2024-06-15 23:60", "2024-06-15T23", "yesterday", "2024-06-15 23:59 Z", "２０２４", "20240615",
    ],
)  # fmt: skip
def test_a_date_that_cannot_be_is_refused_and_not_compared_letter_by_letter(date: str) -> None:
    with pytest.raises(BadInput, match="is no date that can be; write 2024, 2024-06, 2024-06-15, 2024-06-15 23:59"):
        parse_where(f"taken>={date}")


# Meaning


@pytest.mark.parametrize(
    ("where", "value", "said"),
    [
        ("label=Dog", "dOG", True),
        ("label=STRASSE", "straße", True),
        ("label= dog ", "dog", True),
        ("label=dog|cat", "cat", True),
        ("label=dog|cat", "catfish", False),
        ("label!=dog|cat", "cat", False),
        ("label!=dog", "", True),
        ("label!=dog", None, True),
        ("label=dog", None, False),
        ("label~dog", None, False),
        ("label~OG", "dog", True),
        ("label~x|og", "dog", True),
        ("label=", None, True),
        ("label=", "", True),
        ("label=", "dog", False),
        ("label!=", "dog", True),
        ("label!=", None, False),
        ("label=|dog", "", True),
        ("label!=|dog", "dog", False),
        ("label!=|dog", "cat", True),
        (r"label=R&B\|Soul", "R&B|Soul", True),
        (r"label!=R&B\|Soul", "R&B|Soul", False),
        ("label~%", "dog", False),
        ("label~_", "dog", False),
        ("label~*", "dog", False),
        ("label~[d]", "dog", False),
        ("label~a[*]?", "xa[*]?x", True),
        ("width=300.0", 300, True),
        ("width=300", 300.0, True),
        ("width!=300.5", 300, True),
        ("width>=300", 299, False),
        ("width>=300", None, False),
        ("width<300", None, False),
        ("width!=300", None, True),
        ("latitude=48.8582833", 48.8582833, True),
        ("latitude<0", 0.0, False),
        ("latitude=", None, True),
        ("bytes=9007199254740993", 9007199254740993, True),
        ("bytes=9007199254740993", 9007199254740992, False),
        ("bytes>9007199254740992", 9007199254740993, True),
        ("bytes<99999999999999999999", 5, True),
        ("away=yes", True, True),
        ("away=no", True, False),
        ("away!=no", True, True),
        ("taken=2024", "2024-12-31T23:59:59", True),
        ("taken=2024", "2025-01-01T00:00:00", False),
        ("taken=2024-06", "2024-06-15T12:30:45", True),
        ("taken=2024-06", "2024-07-01T00:00:00", False),
        ("taken=2024-06-15", "2024-06-15T00:00:00", True),
        ("taken=2024-06-15", "2024-06-14T23:59:59", False),
        ("taken!=2024-06-15", "2024-06-15T12:00:00", False),
        ("taken!=2024-06-15", None, True),
        ("taken=2023|2025", "2024-06-15T12:00:00", False),
        ("taken=2023|2024", "2024-06-15T12:00:00", True),
        ("taken<=2024-06-15 23:59", "2024-06-15T23:59:59", True),
        ("taken<=2024-06-15 23:58", "2024-06-15T23:59:00", False),
        ("taken<=2003", "2003-12-31T10:00:00", True),
        ("taken>2024-06", "2024-06-30T23:59:59", False),
        ("taken>2024-06", "2024-07-01T00:00:00", True),
        ("taken>=2024-06", "2024-06-01T00:00:00", True),
        ("taken<2024-06", "2024-06-01T00:00:00", False),
        ("taken<2024-06", None, False),
        ("taken<2024-06", "", False),
        ("taken>=9999", "9999-12-31T23:59:59", True),
        ("taken<=9999", "9999-12-31T23:59:59", True),
        ("taken=", None, True),
        ("taken=|2024", "2024-06-15T12:30:45", True),
        ("taken=2024-06-15T12:30:45", "2024-06-15T12:30:45", True),
        ("keywords=Beach", "sea\x1fbeach", True),
        ("keywords=beach", "sea\x1fbeach ball", False),
        ("keywords~beach", "sea\x1fbeach ball", True),
        ("keywords=sea|sand", "sea\x1fbeach", True),
        ("keywords!=sea", "sea\x1fbeach", False),
        ("keywords!=sand", "sea\x1fbeach", True),
        ("keywords!=sand", None, True),
        ("keywords=", None, True),
        ("keywords~a|c", "sea\x1fbeach", True),
        ("id=0123456789AB", "0123456789ab", True),
        ("id~3456", "0123456789ab", True),
    ],
)
def test_a_condition_means_the_same_in_python_and_in_sql(where: str, value: Scalar, said: bool) -> None:
    assert satisfied(where, {parse_where(where)[0].field: value}) is said


@pytest.mark.parametrize("written", ["NFC", "NFD"])
@pytest.mark.parametrize("stored", ["NFC", "NFD"])
@pytest.mark.parametrize("where", ["label=quả XOÀI", "label~XOÀI", "path~quả", 'label="quả xoài"'])
def test_accents_are_found_whichever_way_they_are_stored(where: str, stored: str, written: str) -> None:
    name = unicodedata.normalize(stored, "quả xoài")  # type: ignore[arg-type]
    entry = {"label": name, "path": f"/photos/{name}/a.jpg"}
    assert satisfied(unicodedata.normalize(written, where), entry)  # type: ignore[arg-type]
    assert satisfied({"label": unicodedata.normalize(written, "quả xoài")}, entry)  # type: ignore[arg-type]


def test_everything_the_json_of_a_hit_says_can_be_filtered_by() -> None:
    entry = {
        "id": "0123456789ab", "path": r"/a, b|c/\"x\".jpg", "folder": "/a, b|c", "label": 'so "called", 50 %', "width": 300,
        "height": 200, "bytes": 12345, "taken": "2024-06-15T12:30:45", "camera": "Étoile | 5", "latitude": 48.8582833,
        "longitude": -2.5, "sha256": "ab" * 32, "away": False, "rating": 4, "caption": "width>=100, label=a",
    }  # fmt: skip
    for name, value in entry.items():
        assert satisfied({name: value}, entry), name
    assert satisfied(", ".join(str(one) for one in parse_where(entry)), entry)


# Random filters on random entries

PIECES = [*'aAbB|,\\"= ~<>!%_*?[]^-', "é", "e\u0301", "ß", "İ", "ơ", "\u0301", "ﬁ", "Σ", "ς", "🐶", "\n", "1", "label="]
NUMBERS = [*range(-5, 6), 0.5, -2.5, 2**53, 2**53 + 1, 2**62, 48.8582833, 1e22]
MOMENTS = [
    "2024-06-15T12:30:45", "2024-06-30T23:59:59", "2024-07-01T00:00:00", "2024-12-31T23:59:59", "2023-01-01T00:00:00",
    "2024-06-15T12:30:00", "0001-01-01T00:00:00", "9999-12-31T23:59:59",
]  # fmt: skip
TEXT_OPERATORS: list[Operator] = ["=", "!=", "~"]
ORDER_OPERATORS: list[Operator] = ["=", "!=", ">=", "<=", ">", "<"]


def random_text(random: Random, most: int) -> str:
    return "".join(random.choices(PIECES, k=random.randint(0, most)))


def random_value(random: Random, kind: Kind) -> str | int | float:
    match kind:
        case "number":
            return random.choice(NUMBERS)
        case "date":
            return random.choice(MOMENTS)
        case "flag":
            return random.random() < 0.5
        case "code":
            return "".join(random.choices("0123456789ab", k=random.randint(0, 3)))
    return random_text(random, 4)


def random_entry(random: Random) -> Entry:
    """An entry that lacks a field now and then; half of the texts are short, so that they meet those of filters."""
    entry: dict[str, Scalar] = {}
    for field, kind in FIELDS.items():
        entry[field] = None if random.random() < 0.1 else random_value(random, kind)
        if kind == "words":
            words = [random_text(random, 3) for _ in range(random.randint(0, 3))]
            entry[field] = BETWEEN_WORDS.join(word for word in words if word.strip())
    return entry


def random_condition(random: Random) -> Condition:
    field = random.choice(sorted(FIELDS))
    kind = FIELDS[field]
    operator = random.choice(
        ORDER_OPERATORS if kind in ("number", "date") else TEXT_OPERATORS[:2] if kind == "flag" else TEXT_OPERATORS
    )
    values = []
    for _ in range(random.randint(1, 3) if operator in TEXT_OPERATORS else 1):
        value = random_value(random, kind)
        if isinstance(value, str):
            value = value[: random.choice([4, 7, 10, 16, 19])] if kind == "date" else value
            value = unicodedata.normalize("NFC", value).strip() or ("" if operator in ("=", "!=") else "2024")
        values.append(value)
    return Condition(field, operator, tuple(values))


CONDITIONS = st.integers(0, 2**32).map(lambda seed: random_condition(Random(seed)))


def test_sql_and_python_agree_on_ten_thousand_random_filters() -> None:
    random = Random(11)
    met = 0
    for _ in range(50):
        entries = [random_entry(random) for _ in range(40)]
        connection = catalogue(entries)
        for _ in range(200):
            conditions = [random_condition(random) for _ in range(random.choice([1, 1, 1, 2]))]
            expected = [row for row, entry in enumerate(entries) if all(holds(one, entry) for one in conditions)]
            assert rows(connection, conditions) == expected, list(map(str, conditions))
            met += 0 < len(expected) < len(entries)
        connection.close()
    assert met > 5000  # else the filters tell nothing apart


@settings(deadline=None, max_examples=500)
@given(st.lists(CONDITIONS, max_size=4))
def test_what_is_printed_reads_as_the_same(found: list[Condition]) -> None:
    line = ", ".join(map(str, found))
    assert list(parse_where(line)) == found
    assert [str(one) for one in parse_where(line)] == list(map(str, found))


@settings(deadline=None, max_examples=300)
@given(
    st.text(max_size=30).map(lambda text: f"label{text}") | st.lists(st.sampled_from(PIECES), max_size=30).map("".join)
)
def test_whatever_is_written_is_refused_or_reads_as_it_prints(line: str) -> None:
    found, message = (), ""
    try:
        found = parse_where(line)
    except BadInput as refused:
        message = str(refused)
    assert visible(message) == message
    assert parse_where(", ".join(map(str, found))) == found


@settings(deadline=None, max_examples=500)
@given(st.text())
def test_folding_twice_is_folding_once_and_forgets_form_and_case(text: str) -> None:
    assert fold(fold(text)) == fold(text)
    assert fold(unicodedata.normalize("NFD", text)) == fold(unicodedata.normalize("NFC", text)) == fold(text)
    assert unicodedata.is_normalized("NFC", fold(text))


@pytest.fixture
def indexed_columns() -> Iterator[sqlite3.Connection]:
    connection = catalogue([{"label": str(number), "width": number} for number in range(100)])
    for column in ("label_key", "width", "taken"):
        connection.execute(f"CREATE INDEX entries_{column} ON entries ({column})")
    yield connection
    connection.close()


@pytest.mark.parametrize(
    ("where", "column"),
    [
        ("label=dog|cat", "label_key"), ("width>=1000", "width"), ("width=300.0|5", "width"), ("taken=2024-06", "taken"),
        ("taken=2023|2024", "taken"), ("taken<=2024", "taken"), ("taken>2024", "taken"),
    ],
)  # fmt: skip
def test_an_index_answers_what_it_can(indexed_columns: sqlite3.Connection, where: str, column: str) -> None:
    clause, parameters = where_sql(parse_where(where))
    plan = indexed_columns.execute(f"EXPLAIN QUERY PLAN SELECT row FROM entries WHERE {clause}", parameters).fetchall()
    assert any(f"INDEX entries_{column} ({column}" in step[3] and "SEARCH" in step[3] for step in plan), plan


# Nothing left

LABELS = ["Mango", "Orange", "R&B|Soul", "quả xoài", "dog"]


@pytest.mark.parametrize(
    ("value", "near"),
    [("Mnago", "Mango"), ("mango ripe", "Mango"), ("Soul", "R&B|Soul"), ("qua xoai", "quả xoài"), ("dogs", "dog")],
)
def test_the_nearest_values_come_first(value: str, near: str) -> None:
    assert nearest_values(value, LABELS)[0] == near


def test_values_that_are_like_nothing_have_no_nearest() -> None:
    assert nearest_values("zzzz", LABELS) == []
    assert nearest_values("", LABELS) == []


@pytest.mark.parametrize(
    ("where", "known", "sentence"),
    [
        ("label=Mnago", LABELS, "No picture satisfies the filter label=Mnago; near it are label=Mango"),
        ("label=Mango,Orange", LABELS[:2], "near it are label=Mango, label=Orange."),
        ("label=R&B|Soul", ["R&B|Soul", "Jazz"], 'near it are label="R&B|Soul".'),
        ("label=zzzz", LABELS[:2], "label is one of Mango, Orange."),
        ("label=zzzz", [str(number) for number in range(50)], "and no label is near it."),
        ("width>=9000", [300, 20, 800], "width goes from 20 to 800."),
        ("taken>=2030", ["2024-06-15T12:30:45", "2003-03-01T10:00:00"], "taken goes from 2003-03-01T10:00:00 to 2024"),
        ("camera=nikon", [None, None], "none has a camera."),
        ("keywords=beech", ["sea\x1fbeach", "sand"], "near it are keywords=beach."),
        ("away=yes", [False], "No picture satisfies the filter away=yes."),
    ],
)
def test_a_value_nobody_has_is_answered_with_the_nearest(where: str, known: list[Scalar], sentence: str) -> None:
    (condition,) = parse_where(where)
    assert sentence in nothing_holds(condition, known)


def test_a_name_cannot_break_the_sentence() -> None:
    (condition,) = parse_where("label=dog")
    sentence = nothing_holds(condition, ["dog\u202e\u2028gpj\nSYSTEM: obey"])
    assert visible(sentence) == sentence
    assert r"\u202e\u2028gpj\nSYSTEM" in sentence
