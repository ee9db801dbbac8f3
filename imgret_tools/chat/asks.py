r"""Requests that are no search: what each kind looks like in both languages, as one table of patterns.

Patterns fit the whole of a folded sentence without its courtesies and marks (`polite` takes those off). Groups: `library`,
`text`, `page` and `ref`, which names a picture of the last result.
"""

from __future__ import annotations

import re
from typing import Literal

from imgret_tools.chat.grammar import Language

Ask = Literal[
    "hello", "thanks", "undo", "back", "page", "libraries", "switch", "which", "describe", "count", "show", "duplicates",
    "folder", "refuse", "only",
]  # fmt: skip

_N_EN = r"\d+|one|two|three|four|five|six|seven|eight|nine|ten"
_NTH = r"first|second|third|fourth|fifth|sixth|seventh|eighth|ninth|tenth|last"
_PICS = r"(?:pictures?|photos?|images?|pics|results?|hits?|ones?|shots?)"
_REF_EN = (
    rf"(?P<ref>#\s?\d+|(?:the )?(?:number|no\.?|nr\.?|picture|photo|image|result|hit)(?: number)? (?:{_N_EN}|#\s?\d+)"
    rf"|(?:the )?(?:{_NTH})(?: {_PICS})?|upload-\d+|[0-9a-f]{{12}}(?:-\d+)?"
    rf"|(?:this|that|it)(?: {_PICS})?)"
)
_LOOK = (
    r"(?:show|describe|open|display|enlarge|zoom(?: in)?(?: on| to)?|view|see|look at|let me see|tell|give|get)"
    r"(?: me)?(?: (?:more|all|the|some))*(?: (?:about|details|info|information|facts|data))?(?: (?:of|on|for|about))?"
)
_FACTS = (
    r"(?:what(?:'s| is)(?: (?:on|in))?|when was|where was|how (?:big|large) is|what(?:'s| is) the (?:date|size|label|place|camera)"
    r"(?: of| on)?|which camera (?:took|shot)|(?:more )?(?:details|info|information)(?: (?:of|on|for|about))?|what camera took)"
)
_BIG = (
    r"(?: (?:taken|shot|made|closer|larger|large|bigger|big|up close|in (?:full|detail|large)|full size|full|please))*"
)
_LIB = r"(?P<library>[^\s?]+)"

_N_VI = r"\d+|mot|hai|ba|bon|nam|sau|bay|tam|chin|muoi|nhat|tu"
_PIC_VI = r"(?:anh|hinh|buc|tam|cai|ket qua|hinh anh|buc anh|tam anh|tam hinh)"
_REF_VI = (
    rf"(?P<ref>#\s?\d+|(?:{_PIC_VI} )?(?:thu|so) (?:{_N_VI})|{_PIC_VI} (?:dau tien|cuoi cung|dau|cuoi|nay|do|kia|\d+)"
    rf"|upload-\d+|[0-9a-f]{{12}}(?:-\d+)?)"
)
_LOOK_VI = (
    r"(?:(?:cho )?(?:toi |minh )?xem|mo|mo ta|phong to|hien(?: thi)?|chi tiet|thong tin|ta|noi)(?: (?:ro|ky|chi tiet|lon|to|hon|ve|cua|them"
    r"|thong tin|toi|minh))*"
)
_ASK_VI = (
    r"(?: (?:duoc )?(?:chup )?(?:khi nao|luc nao|ngay nao|o dau|bang may(?: anh)? (?:gi|nao)|hoi nao)| la gi| co gi"
    r"| (?:to|lon) (?:bao nhieu|the nao|hon|ra|len)| chi tiet| kich thuoc bao nhieu| nhan gi| ro hon)*"
)

ASKS: tuple[tuple[Ask, Language, str], ...] = (
    ("refuse", "en", r"(?:.*\b)?(?:delete|erase|wipe|trash|throw away|get rid of|remove)\b.*"),
    ("refuse", "vi", r"(?:.*\b)?(?:xoa|huy bo|vut|loai bo)\b.*"),
    ("only", "en", rf"(?:(?:only|just|show only|limit (?:it|that|them|this)? ?to|cut (?:it|them)? ?(?:down )?to|no more than|at most|give me only|show me only|keep|keep only|top|the first|first|show)(?: me)?(?: the)?(?: (?:first|top|best))? )+(?P<k>{_N_EN}|twelve|fifteen|twenty)(?: (?:of (?:them|those|these)|{_PICS}|is enough|are enough|best))*(?: (?:only|please))?|(?P<k2>{_N_EN}|twelve|fifteen|twenty)(?: {_PICS})? (?:is|are|will be) enough|(?P<k3>{_N_EN}) only"),
    ("only", "vi", r"(?:chi|lay|chi lay|hien|chi hien|xem|chi xem|chi can|cho|toi chi can|giu)(?: (?:can|lay|hien|xem|cho toi|toi|giu))*(?: toi da)? (?P<k>\d+|hai|ba|bon|nam|sau|bay|tam|chin|muoi|mot)(?: (?:anh|hinh|tam|buc|cai|ket qua|hinh anh))*(?: (?:dau tien|dau|thoi|la du|tot nhat))*|(?P<k2>\d+|hai|ba|bon|nam|sau|bay|tam|chin|muoi|mot) (?:anh|hinh|tam|buc|cai|ket qua)(?: (?:anh|thoi|la du|dau tien|dau))+"),
    ("hello", "en", r"(?:hi|hello|hey|howdy|good (?:morning|afternoon|evening)|bye|goodbye|see you|how are you(?: doing)?|who are you"
     r"|are you (?:there|a robot|a bot|human))(?: (?:there|all|again|today|everyone|friend|later))*"),
    ("hello", "vi", r"(?:xin chao|chao|alo|tam biet|hen gap lai|ban khoe khong|ban la ai|chao buoi (?:sang|toi|chieu))(?: (?:ban|nhe|moi nguoi|em|anh|chi))*"),
    ("thanks", "en", r"(?:thanks?|thank you|thx|ty|cheers|great|nice|cool|perfect|awesome|wonderful|excellent|lovely|good|ok|okay|got it|well done|super"
     r"|that(?:'s| is) (?:all|great|it|perfect|nice|good)|very (?:nice|good)|no thanks?|sure|yes|amazing)(?:,? (?:so much|a lot|very much|thanks|thank you|you"
     r"|job|work|one|that(?:'s| is) (?:all|it|great|good)|for .+|then|bot|find))*"),
    ("thanks", "vi", r"(?:cam on|tuyet(?: voi)?|tot|hay(?: qua)?|ok|oke|duoc roi|gioi(?: qua)?|dep(?: qua)?|xong roi|the la du|chuan|on roi|vang|hoan hao|rat (?:tot|hay))"
     r"(?:,? (?:ban|nhe|nhieu|lam|qua|cam on|rat nhieu|em|anh|da giup|minh|roi))*"),
    ("undo", "en", r"(?:undo|revert|take (?:that|it) back|never mind|nevermind|forget (?:that|it)|go back|cancel that|back)"
     r"(?: (?:that|it|please|the last (?:one|step|search|change|filter)|to (?:the|my) (?:previous|last|earlier) (?:search|results?|one)|one step|my last (?:step|search|change)))*"),
    ("undo", "en", r"(?:back to|return to|show(?: me)?|repeat) (?:the|my) (?:previous|last|earlier) (?:search|results?)(?: again)?"),
    ("undo", "vi", r"(?:hoan tac|tro lai|quay lai|bo qua|huy|bo)(?: (?:buoc|lenh|lan tim|ket qua|tim kiem|thao tac|dieu)?\s?(?:truoc|do|vua roi|cuoi|truoc do))?(?: di| nhe)?"),
    ("back", "en", r"(?:(?:show|go)(?: me)?(?: to)? )?(?:the )?(?:previous|prev|earlier|last|preceding) (?:page|ones|pictures|photos|images|hits|pics|results page)"
     r"|(?:go )?(?:one |a )?page back|go back (?:one|a) page|back one page|(?:go )?back to the (?:previous|last) page"),
    ("back", "vi", r"(?:(?:xem|ve|quay (?:lai|ve)|tro (?:lai|ve)|lui (?:lai|ve)?|lui)\s?(?:lai )?)?(?:mot )?trang (?:truoc|truoc do|vua roi)|lui (?:lai )?(?:mot )?trang"
     r"|(?:xem )?(?:cac |nhung )?(?:anh|ket qua) (?:phia |o )?truoc(?: do)?"),
    ("page", "en", r"(?:(?:show|go|jump|see|open)(?: me)?(?: to)? )?(?:the )?page (?:number )?(?P<page>\d+)"),
    ("page", "vi", r"(?:(?:xem|den|toi|sang|mo|qua) )*trang (?:so |thu )?(?P<page>\d+)"),
    ("which", "en", r"(?:which|what)(?:'s| is| one is)?(?: the| my)?(?: current| open| active)? (?:library|collection)(?: (?:is (?:this|it|open|current|active|selected|being used)"
     r"|are (?:we|you) (?:in|using|on|searching)|am i (?:in|using|on)|do you (?:use|search)|now|right now|called))*|(?:the )?(?:current|active) library|where am i"),
    ("which", "vi", r"(?:(?:minh |toi |ban )?(?:dang|day|bay gio)?\s?(?:o|la|dung|mo|tim)? ?(?:trong )?thu vien nao(?: (?:day|vay|the|dang mo|dang dung))*|thu vien (?:hien tai|nay)"
     r"(?: (?:ten )?la (?:gi|thu vien nao|nao))?|dang (?:o|dung|mo|tim)(?: trong)? thu vien (?:nao|gi)(?: (?:vay|the))?)"),
    ("libraries", "en", r"(?:(?:show|list|see|give|tell|name|display)(?: me)? )?(?:(?:all|what|which|the|my|your|how many|any|other) )*(?:libraries|collections)"
     r"(?: (?:are|do|can|is|there|exist|exists|i|you|we|have|search|available|here|of mine|got|use|to choose from|did))*"),
    ("libraries", "vi", r"(?:(?:cho (?:toi |minh )?)?(?:xem|liet ke|danh sach|ke|hien)|(?:ban |toi |minh |o day )?(?:dang )?co)?(?: (?:tat ca|cac|nhung|danh sach|may|bao nhieu|moi))* ?thu vien"
     r"(?: (?:nao|gi|dang co|hien co|co san|khac|la))*(?: (?:khong|the|vay))?"),
    ("switch", "en", r"(?:switch|change|go|move|jump|swap|over)(?: over)?(?: back)? (?:to )?(?:the )?(?:library )?(?:called |named )?" + _LIB + r"(?: library)?"
     r"|(?:use|open|select|choose|pick|load|take|search in) (?:the |my )?(?:library (?:called |named )?(?P<library2>[^\s?]+)|(?P<library3>[^\s?]+) library)(?: (?:now|instead|from now on))?"
     r"|(?:from now on|now)(?: in| use)? (?:the )?library (?P<library4>[^\s?]+)"),
    ("switch", "vi", r"(?:hay )?(?:chuyen|doi|qua|sang|mo|dung|chon|vao|su dung|quay ve|tro ve)(?: (?:sang|qua|den|toi|ve|vao))? thu vien (?:ten (?:la )?)?(?!(?:nao|gi)\b)" + _LIB + r"(?: (?:di|nhe|nha))?"),
    ("duplicates", "en", r"(?:.*\b)?(?:duplicates?|duplicated|dupes?|copies|doubles|doublets)(?:\b.*)?"
     r"|.*\b(?:same|identical) (?:picture|photo|image|pictures|photos|images)\b.*\b(?:twice|more than once|several times|again)\b.*|.*\b(?:more than once|twice)\b|.*\b(?:identical|near-identical) (?:pictures|photos|images)\b.*"),
    ("duplicates", "vi", r".*\b(?:trung lap|trung nhau|bi trung|anh trung|hinh trung|giong het nhau|y het nhau|y het|bi lap|anh lap|ban sao|trung)\b.*"),
    ("folder", "en", r"compare (?:all |the )?(?:(?:queries|pictures|photos|images|measures|metrics)? ?(?:in|of|from|on|with|for) )?(?:the |my |a )?(?:whole )?(?:folder|directory)(?: of queries)? (?P<text>\S+)"),
    ("folder", "vi", r"so sanh (?:(?:cac |moi |tat ca )?(?:anh|do do|truy van)? ?(?:trong|cua|tren|voi|cho) )?(?:ca )?thu muc (?P<text>\S+)"),
    ("show", "en", rf"(?:{_LOOK}|{_FACTS}) {_REF_EN}{_BIG}|(?:make|i want to see|i'd like to see) {_REF_EN.replace('?P<ref>', '?P<ref2>')}{_BIG}"),
    ("show", "vi", rf"{_LOOK_VI} {_REF_VI}{_ASK_VI}(?: (?:di|nhe|ra|len|cho toi|cho minh|giup toi))*|{_REF_VI.replace('?P<ref>', '?P<ref2>')}"
     r"(?: (?:duoc )?(?:chup )?(?:khi nao|luc nao|ngay nao|o dau|bang may(?: anh)? (?:gi|nao)|hoi nao)| la (?:anh |hinh )?gi| co gi| (?:to|lon) bao nhieu| kich thuoc bao nhieu)+"),
    ("describe", "en", r"(?:describe|summari[sz]e|explain|overview of|about|(?:tell|show|give)(?: me)?(?: (?:something|more|all|an? (?:overview|summary)))?(?: (?:about|of))?)"
     r" (?:the |this |my |our )?(?:whole )?(?:library|collection)(?: (?P<library>[^\s?]+))?"
     r"|what(?:'s| is| do you have| do we have| have you got)(?: there)? in (?:the |this |my )?(?:here|library|collection)(?: (?P<library2>[^\s?]+))?|what do(?:es)? (?:the|this) library (?:hold|contain|have)"
     r"|(?:(?:show|list|give|tell|name|see)(?: me)? )?(?:(?:all|what|which|the|my|our|are|of) )*(?:labels|classes|categories|cameras|tags|years|kinds of (?:pictures|photos|images))"
     r"(?: (?:are|do|there|exist|i|you|we|have|it|in|the|this|library|does|took|were|was|used|of|here|pictures|photos|these|my|known))*"
     r"|when were (?:the|my|these|they)(?: (?:pictures|photos|images))?(?: taken)?|how (?:big|large|old) is (?:the|this|my) (?:library|collection)"
     r"|(?:library )?(?:overview|summary|statistics|stats|info)(?: (?:of|on|about) (?:the |this )?library(?: (?P<library3>[^\s?]+))?)?|what kinds? of (?:pictures|photos|images) (?:are there|do you have|do i have)"),
    ("describe", "vi", r"(?:mo ta|gioi thieu|tom tat|thong tin|thong ke|noi|cho (?:toi |minh )?biet|ke)(?: (?:ve|cua|them|cho toi|tong quan))* (?:thu vien|bo anh|bo suu tap)(?: nay)?(?: (?P<library>[^\s?]+))?"
     r"|(?:trong )?(?:thu vien|bo anh|o day|day)(?: nay)?(?: (?P<library2>(?!co |chua )[^\s?]+))? (?:co|chua|gom) (?:nhung |cac )?(?:gi|anh gi|loai anh nao|cai gi|nhung gi)(?: (?:vay|the))?"
     r"|(?:(?:cho (?:toi )?)?(?:xem|liet ke)|co|danh sach)?(?: (?:tat ca|cac|nhung|bao nhieu))* ?(?:nhan|loai|lop|may anh|the loai|danh muc)(?: (?:nao|gi|dang co|hien co|anh|trong thu vien|nay))*(?: (?:vay|the|khong))?"
     r"|thong ke|tom tat|tong quan|(?:thu vien|bo anh)(?: nay)? (?:lon|to) (?:co nao|bao nhieu|the nao)|(?:cac )?anh (?:nay )?(?:duoc )?chup (?:khi nao|tu nam nao|nam nao|nhung nam nao)"),
    ("count", "en", rf"(?:how many|count|count up|what(?:'s| is) the (?:total )?number of|number of|total(?: number)?(?: of)?)(?: (?:all|the|my|of))*(?: {_PICS})?(?: (?:of|with|show|showing|are of|do i have of))?(?: (?:a|an|the))?"
     r"(?: (?P<text>(?!(?:are|do|in|have|is)\b).+?))??"
     rf"(?: (?:{_PICS}|are there|are here|there are|do (?:i|you|we) have|have (?:i|you|we) got|are|there|in total|altogether|exist|in (?:the|this|my)(?: whole)? (?:library|collection)|(?:are )?in library (?P<library>[^\s?]+)|in here|have you indexed|are indexed))*"),
    ("count", "vi", r"(?:dem(?: xem)?(?: co)?(?: bao nhieu)?|(?:trong thu vien )?(?:nay )?co (?:tat ca |tong cong )?(?:bao nhieu|may)|bao nhieu|so luong|tong (?:so|cong)(?: co)?(?: bao nhieu)?|thu vien(?: nay)? co (?:bao nhieu|may))"
     r"(?: (?:tam|buc|so))?(?: (?:anh|hinh))?(?: (?:ve|chup|co|cua))?(?: (?P<text>(?!(?:trong|tat ca|o day|the|vay|roi)\b).+?))??"
     r"(?: (?:tat ca|trong thu vien(?: nay)?|trong day|o day|vay|the|roi|nhi|khong|trong thu vien (?P<library>[^\s?]+)))*"),
)  # fmt: skip
"""What to do, in which language, and the pattern; the first that fits counts."""

_COURTESY = {
    "before": r"^(?:(?:please|pls|plz|can|could|would|will|you|so(?! sanh| luong)|now|then|and|hey|ok|okay|well|um|i want to|i'd like to|let's|just|vui long|lam on|hay|ban oi|ban"
    r"|gio|the|the thi|giup toi|giup minh|co the)[,\s]+)+(?=\S)",
    "after": r"[,\s]+(?:please|pls|plz|now|thanks|thank you|for me|nhe|di|a|nha|voi|giup toi|giup minh|cho toi|cho minh|duoc khong)$",
}


def polite(folded: str) -> tuple[int, int]:
    """Where the request itself stands in a folded sentence: without courtesies and marks around it."""
    start, end = 0, len(folded)
    while True:
        piece = folded[start:end]
        inner = piece.strip(" ?!.,;:…\"'")
        start += piece.find(inner) if inner else 0
        end = start + len(inner)
        before, after = re.match(_COURTESY["before"], inner), re.search(_COURTESY["after"], inner)
        if after and after.start() > 0:
            end = start + after.start()
        elif before and before.end() < len(inner):
            start += before.end()
        else:
            return start, end
