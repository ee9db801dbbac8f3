# ruff: noqa: SIM905 (patterns and word lists stay on lines of their own)
"""What plain requests look like in English and Vietnamese: the patterns that `understand` reads with.

Vietnamese patterns are written without diacritics and matched against folded text, so they fit either way of typing.
Groups named `value` are what a pattern is after.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

Language = Literal["en", "vi"]

MEASURES = {"cosine": "cosine", "pearson": "pearson", "l1": "l1", "l2": "l2", "manhattan": "l1"} | {
    "euclid": "l2",
    "euclidean": "l2",
}
_MEASURE = r"(?P<value>cosine|pearson|l1|l2|manhattan|euclid(?:ean)?)\b"
PATH = r"(?:https?://\S+|\bupload-\d+\b|\S+\.(?:jpe?g|png|webp|gif|bmp|tiff?|heic|heif|avif|jp2)\b|\b[0-9a-f]{12}(?:-\d+)?\b)"
FILTER = r",?\s*(?:\b(?:with|and|voi|va)\s+)?(?P<value>(?:width|height|bytes|taken|camera|label|path|folder|latitude|longitude)\s*(?:!=|>=|<=|=|>|<|~)\s*\S+)"


@dataclass(frozen=True, slots=True)
class Grammar:
    """The patterns of one language; `numbers` and `ordinals` are words that stand for numbers (-1: the last)."""

    refuse: str
    help: str
    index: str
    into_library: str
    after_folder: str
    dry_run: str
    compare: str
    and_compare: str
    find: str
    reference: str
    this: str
    count: str
    measure: str
    pixels: str
    label: str
    library: str
    place: str
    more: str
    without: str
    likeness: str
    but: str
    courtesy: str
    asks: str
    numbers: dict[str, int]
    ordinals: dict[str, int]
    lead: frozenset[str] = field(default_factory=frozenset)
    tail: frozenset[str] = field(default_factory=frozenset)
    signs: frozenset[str] = field(default_factory=frozenset)


_EN_NUMBERS = dict(
    zip("two three four five six seven eight nine ten eleven twelve fifteen twenty thirty fifty".split(),
        (*range(2, 13), 15, 20, 30, 50), strict=True)
)  # fmt: skip
_EN_ORDINALS = dict(
    zip("first second third fourth fifth sixth seventh eighth ninth tenth".split(), range(1, 11), strict=True)
) | {"last": -1}
_VI_NUMBERS = dict(zip("hai ba bon nam sau bay tam chin muoi".split(), range(2, 11), strict=True))
_VI_ORDINALS = {"nhat": 1, "mot": 1, "tu": 4} | _VI_NUMBERS | {"dau tien": 1, "dau": 1, "cuoi cung": -1, "cuoi": -1}

_EN_NUMBER = rf"\d+|{'|'.join(_EN_NUMBERS)}"
_VI_NUMBER = rf"\d+|{'|'.join(_VI_NUMBERS)}"
_PICTURES = r"(?:pictures?|photos?|images?|pics|results?|hits?|ones?)"
_ANH = r"(?:anh|hinh|buc|tam|cai|ket qua)"

ENGLISH = Grammar(
    refuse=r"^(?:please |can you |could you )*(?:delete|remove|erase|rename|move|copy|translate|write|e-?mail|send|draw"
    r"|generate|paint|edit|crop|resize|print|post|upload|buy|order|play|sing|tell me (?:a|about)|what(?:'s| is| are)"
    r"|who|why|when|how (?:are|old|much|many|far))\b",
    help=r"^help\b|what (?:can|do) you do|what are you able|how (?:do|can) i use|how does (?:this|it) work",
    index=r"\b(?:re-?)?index(?:ing)?\b|^(?:please |can you |could you )*(?:scan|import|load|refresh|add)\b"
    r"|^make .* searchable",
    into_library=r"\b(?:(?:in)?to|in) (?:the |my )?library(?: called)?(?: (?P<value>\S+))?|\b(?:and )?(?:called|as|named|name it|call it|call the library)(?: library)? (?P<value2>\S+)",
    after_folder=r"\b(?:folder|directory) (?P<value>\S+)",
    dry_run=r",?\s*(?:but )?(?:only |just )?(?:tell me )?what would change(?: if i)?|\bdry[- ]?run(?: of)?",
    compare=r"\bcompar(?:e|ing|ison)\b|\b(?:which|what) measure|\bmeasures? differ",
    and_compare=r",?\s*(?:\band |\bthen |& )+compare\b.*$",
    find=r"\b(?:find|search|look(?:ing)?|show|see|get|give|display|list|want|need|have|are there|is there|where|which"
    r"|similar|like)\b",
    reference=rf"#\s?(?P<value>\d+)|\b(?:number|no\.?|(?:picture|photo|image|result)) (?P<value2>{_EN_NUMBER}|one)\b"
    rf"|\b(?:the )?(?P<value3>{'|'.join(_EN_ORDINALS)})(?: {_PICTURES})?\b",
    this=rf"\b(?:like|to|for|on) (?P<value>(?:this|that|it)(?: {_PICTURES})?)\b",
    count=rf"(?:\bwith )?\bk\s*=\s*(?P<value>\d+)|\btop (?P<value2>{_EN_NUMBER})\b"
    rf"|\b(?:find|show|get|give|see|display|list|want|need)(?: me)?(?: the)? (?P<value3>{_EN_NUMBER})\b"
    rf"|\b(?P<value4>\d+) (?={_PICTURES})",
    measure=rf",?\s*(?:\b(?:by|with|using|use|under|in|on)\s+)?(?:\bthe\s+)?\b{_MEASURE}"
    r"(?:\s+(?:similarity|distance|measure|metric|correlation|instead))*",
    pixels=r"(?:compare )?\braw colou?rs:?|\b(?:by|in|on|using|with) (?:the )?pixels?(?: space)?\b",
    label=r",?\s*\b(?:only|just)(?: (?!label)\w+){0,3} label(?:l?ed)?[ =:]+(?P<value>\S+)"
    r"|,?\s*(?:\bwith )?(?:the )?\blabel(?:l?ed)?[ =:]+(?P<value2>\S+)",
    library=r"\b(?:in |from |search |look in )?(?:the |my )?library (?!for\b)(?P<value>\S+)"
    r"|\b(?:in|from) (?:the |my )?(?P<value2>\S+) library\b",
    place=r"\b(?:in|from) (?:the folder |folder )?(?P<value>photos|pictures|images|pics|data|\S*[/\\]\S*)\s*$",
    more=rf"\b(?:the )?next(?: (?:page|one|set|batch)| (?:{_EN_NUMBER})(?: {_PICTURES})?| {_PICTURES})?\b"
    rf"|^(?:(?:show|give|see|get|any|and|are there|i want)(?: me)? )*(?:some )?more(?: {_PICTURES}| of (?:them|these|those)| like that| please)*$"
    r"|^(?:go on|keep going|continue|what else|anything else|further|load more|and then|the rest)$",
    without=r",?\s*\b(?:but not|but no|but without|without|except(?: for)?|excluding|not|, no)\s+(?P<value>.+)$",
    likeness=rf"^.*?\b(?:like|similar (?:(?:pictures?|photos?|images?|ones?|shots?) )?to|resembl\w+|by (?:image|picture|photo)|close to)\b(?:\s+{_PICTURES})?",
    but=r"^(?:,?\s*but\s+)+",
    courtesy=r"\bfor (?:me|us)\s*[?.!]*$",
    asks=r"^(?:what|who|why|when|how)\b",
    numbers=_EN_NUMBERS | {"one": 1},
    ordinals=_EN_ORDINALS,
    lead=frozenset(
        "please can could would you i i'm im am want to need looking look do have has are is there any some which where "
        "what that find search show shows showing see get give display list me us for my a an the of with in one all "
        "picture pictures photo photos image images pics pic something anything contain containing now top try it "
        "same use using instead again them those only just results hits search by did at".split()
    ),
    tail=frozenset("please thanks now instead them again pictures photos images for with".split()),
    signs=frozenset(
        "the a an of find search show me for in with like similar compare index to images pictures photos use more only "
        "what i is are you please label labelled help delete rename page next".split()
    ),
)

VIETNAMESE = Grammar(
    refuse=r"^(?:hay |ban |giup toi )*(?:xoa|doi ten|di chuyen|chep|dich|viet|gui|ve cho|ve mot|thoi tiet|in ra|cat anh|hat"
    r"|ke|mua|dat hang|choi|dang len|tai len|ai la|tai sao|khi nao|hom nay)\b",
    help=r"^(?:giup (?:toi|minh|do)|tro giup|huong dan)$|lam (?:duoc )?(?:nhung )?gi\b|cach (?:su )?dung|^help$|dung the nao",
    index=r"\b(?:lap|danh|tao|cap nhat)(?: lai)? chi muc\b|^(?:hay |ban )?(?:index|quet|nap|cap nhat)\b"
    r"|^(?:hay |ban )?them\b.*\bthu (?:muc|vien)\b",
    into_library=r"\bvao (?:trong )?thu vien(?: (?P<value>\S+))?|\b(?:va |roi )?(?:dat ten(?: thu vien)?(?: la)?|voi ten|goi la|ten la"
    r"|thanh(?: thu vien)?|lam thu vien) (?P<value2>\S+)",
    after_folder=r"\bthu muc (?P<value>\S+)",
    dry_run=r",?\s*(?:nhung )?(?:chi )?(?:xem thu|thu xem|chay thu)(?: thoi)?|\bse thay doi (?:nhung )?gi",
    compare=r"\bso sanh\b|\bdo do nao\b",
    and_compare=r",?\s*(?:\b(?:va|roi|sau do)\s+)+so sanh\b.*$",
    find=r"\b(?:tim|kiem|xem|hien|lay|co|can|muon|giong|tuong tu|anh|hinh)\b",
    reference=rf"#\s?(?P<value>\d+)|\b(?:{_ANH} )?(?:thu|so) (?P<value2>\d+|nhat|mot|tu|{'|'.join(_VI_NUMBERS)})\b"
    rf"|\b{_ANH} (?P<value3>dau tien|cuoi cung|dau|cuoi)\b",
    this=r"\b(?P<value>(?:anh|hinh|cai|buc|tam) (?:nay|do))\b",
    count=rf"(?:\bvoi )?\bk\s*=\s*(?P<value>\d+)|\b(?P<value2>{_VI_NUMBER}) (?={_ANH}\b)"
    r"|\b(?:tim|xem|hien|lay|cho (?:toi|minh)) (?P<value3>\d+)\b",
    measure=rf",?\s*(?:\b(?:bang|dung|theo|voi|su dung)\s+)?(?:\b(?:do do|khoang cach|do tuong tu|phep do)\s+)?\b{_MEASURE}",
    pixels=r"\b(?:theo|bang|tren|trong) (?:khong gian )?(?:diem anh|pixels?|mau tho)\b",
    label=r",?\s*\b(?:chi )?(?:lay )?(?:nhung |cac )?(?:anh |hinh )?(?:co |voi )?nhan(?: la)?[ =:]+(?P<value>\S+)",
    library=r"\b(?:(?:o )?trong |tu |o )?thu vien (?P<value>\S+)",
    place=r"\btrong (?:thu muc )?(?P<value>photos|pictures|images|pics|data|\S*[/\\]\S*)\s*$",
    more=r"\btrang (?:sau|ke|tiep(?: theo)?)\b|^(?:cho )?(?:toi |minh )?xem (?:them|tiep)(?: (?:nua|di|anh|hinh|ket qua|nhe))*$"
    r"|^(?:con|lay|cho|hien)? ?(?:toi |minh )?them (?:nua|anh|hinh|ket qua|anh nua)(?: di| nhe| khong)?$|^(?:con )?(?:nua|gi nua|anh nao nua)(?: di| khong)?$"
    r"|^tiep(?: theo| tuc| di)*$|^(?:cac |nhung )?(?:anh|ket qua|hinh) (?:tiep theo|sau|ke tiep)$|^nhieu hon(?: nua)?$",
    without=r",?\s*(?:\bnhung )?\b(?:khong (?:co|phai(?: la)?)|tru|ngoai tru|ngoai)\s+(?P<value>.+)$",
    likeness=r"^.*?\b(?:giong(?: nhu| voi)?|tuong tu(?: nhu| voi)?|nhu|bang (?:anh|hinh))\b",
    but=r"^(?:,?\s*nhung\s+)+",
    courtesy=r"\b(?:giup|cho) (?:toi|minh)(?: (?:nhe|voi|di|nha|a))*\s*[?.!]*$",
    asks=r"\b(?:tai sao|vi sao|khi nao|bao gio|bao nhieu|the nao|la gi)\b",
    numbers=_VI_NUMBERS | {"mot": 1},
    ordinals=_VI_ORDINALS,
    lead=frozenset(
        "hãy bạn tìm kiếm giúp cho tôi mình xem muốn cần đang có hình ảnh nào về chụp những các lấy hiện bức tấm dùng "
        "thử với giờ làm lại bằng chỉ kết quả thêm theo của ra này mà một".split()
    ),
    tail=frozenset("không nhé đâu nào ạ đi với nha vậy".split()),
    signs=frozenset(
        "tim anh hinh cho toi xem lap chi muc thu vien so sanh giong nhan trang sau tiep khong hay ban dung bang theo "
        "cac nao quet nap cap nhat ve co giup hien lay xoa dich muon trong cai tuong thoi viet gui minh lam danh".split()
    ),
)

GRAMMARS: dict[Language, Grammar] = {"en": ENGLISH, "vi": VIETNAMESE}

MONTHS = dict(zip("jan feb mar apr may jun jul aug sep oct nov dec".split(), range(1, 13), strict=True))
"""Numbers of the months, by their first three letters in English."""

_YEAR = r"(?P<year>(?:19|20)\d\d(?:-\d\d(?:-\d\d)?)?)(?![\w/])"
_WHEN = (
    r"(?:(?P<month>jan(?:uary)?|feb(?:ruary)?|march|mar|april|apr|may|june|jun|july|jul|aug(?:ust)?|sep(?:t(?:ember)?)?"
    rf"|oct(?:ober)?|nov(?:ember)?|dec(?:ember)?),? )?(?:the year )?{_YEAR}"
)
_KHI = rf"(?:thang (?P<month>\d\d?)\s?(?:/|nam|-)?\s?(?:nam )?|nam |)(?:ngay )?{_YEAR}"

FACTS: tuple[tuple[str, str], ...] = (
    (r"(?:\b(?:taken|shot|made|chup)\b )?\b(?:from|between|tu|trong khoang)(?: nam)? (?P<first>(?:19|20)\d\d) (?:to|and|until|till|-|den|toi|va)(?: nam)? (?P<last>(?:19|20)\d\d)\b",
     "taken>={first} & taken<={last}"),
    (rf"(?:\b(?:taken|shot|made|from|that are|chup)\b )?\b(?:before|older than|earlier than)\b {_WHEN}", "taken<{year}"),
    (rf"(?:\b(?:taken|shot|made|from|that are|chup)\b )?\b(?:after|newer than|later than)\b {_WHEN}", "taken>{year}"),
    (rf"(?:\b(?:taken|shot|made)\b )?\bsince\b {_WHEN}(?: on)?", "taken>={year}"),
    (rf"(?:\bchup\b )?\btruoc {_KHI}", "taken<{year}"),
    (rf"(?:\bchup\b )?\bsau {_KHI}", "taken>{year}"),
    (rf"(?:\bchup\b )?\btu {_KHI}(?: (?:tro di|den nay|tro lai day))", "taken>={year}"),
    (rf"(?:\b(?:taken|shot|made)\b )?\b(?:in|from|of|during|on)\b {_WHEN}(?: only)?", "taken={year}"),
    (rf"(?:\bchup\b )?(?:\b(?:vao|trong|hoi|tu|cua|o)\b )?\b(?:thang (?P<month>\d\d?)\s?(?:/|nam|-)?\s?(?:nam )?|nam |ngay ){_YEAR}", "taken={year}"),
    (r"\b(?:larger|bigger|heavier|more) than (?P<mega>\d+(?:[.,]\d+)?) ?(?:mb|megabytes?)\b|\b(?:lon|nang|nhieu) hon (?P<mega2>\d+) ?mb\b", "bytes>{bytes}"),
    (r"\b(?:smaller|less) than (?P<mega>\d+(?:[.,]\d+)?) ?(?:mb|megabytes?)\b|\bnho hon (?P<mega2>\d+) ?mb\b", "bytes<{bytes}"),
    (r"\b(?:wider|larger|bigger) than (?P<side>\d{3,5})(?: ?(?:px|pixels?))?(?: wide)?\b", "width>{side}"),
    (r"\b(?:at least|minimum) (?P<side>\d{3,5}) ?(?:px|pixels?)?(?: wide)\b", "width>={side}"),
    (r"\b(?:rong|lon|to) hon (?P<side>\d{3,5})(?: ?(?:px|pixels?|diem anh))?\b", "width>{side}"),
    (r"\b(?:taken|shot|made) (?:with|by|on) (?:a |an |my |the )?(?:camera )?(?P<camera>[\w-]+)(?: camera)?\b|\bchup bang (?:may anh |may )?(?P<camera2>[\w-]+)", "camera~{camera}"),
)  # fmt: skip
"""Filters by date, size and camera as they are said, and the conditions they mean."""

SORTS: tuple[tuple[str, str], ...] = (
    ("newest", r",?\s*\b(?:(?:sort(?:ed)?|order(?:ed)?)(?: \w+)? by (?:date|newest|time)|(?:the )?(?:newest|latest|most recent)(?: first)?|moi nhat(?: truoc)?|gan day(?: nhat)?|sap xep (?:\w+ )?theo (?:ngay|thoi gian))\b"),
    ("oldest", r",?\s*\b(?:(?:the )?(?:oldest|earliest)(?: first)?|(?:sort(?:ed)?|order(?:ed)?)(?: \w+)? by oldest|cu nhat(?: truoc)?|xua nhat)\b"),
    ("name", r",?\s*\b(?:(?:sort(?:ed)?|order(?:ed)?)(?: \w+)? by (?:file ?)?name|alphabetical(?:ly)?|in alphabetical order|sap xep (?:\w+ )?theo ten|theo ten(?: tep)?)\b"),
    ("largest", r",?\s*\b(?:(?:sort(?:ed)?|order(?:ed)?)(?: \w+)? by size|(?:the )?(?:largest|biggest)(?: first)?(?= (?:pictures?|photos?|images?|files?|first)|$| \d)|lon nhat|to nhat|sap xep (?:\w+ )?theo (?:kich thuoc|co))\b"),
)  # fmt: skip
"""Orders as they are said."""

COMMANDS = frozenset(
    "search similar library libraries duplicates duplicate compare measure measures pictures picture photos photo images "
    "number describe newest oldest largest label labels labelled delete index folder switch browse previous thanks "
    "everything second third fourth results result show enlarge instead using without".split()
)
"""Words of command that a slip of the finger is put right to (folded, five letters or more)."""
