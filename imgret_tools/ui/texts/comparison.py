"""A comparison in Vietnamese: captions, sentences and definitions by the keys that the records and the HTML use."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import replace

from imgret_tools.comparing.figure import Compared
from imgret_tools.comparing.html import WORDS
from imgret_tools.comparing.report import Note, QuerySetComparison
from imgret_tools.errors import Message
from imgret_tools.records import Scalar
from imgret_tools.ui.texts.messages import translated
from imgret_tools.ui.texts.table import Language

_NUMBER = re.compile(r"-?\d+\.\d+")

VIETNAMESE_WORDS: dict[str, str] = {
    "title": "So sánh các độ đo",
    "query": "Truy vấn",
    "label": "nhãn",
    "no_label": "không có nhãn",
    "way": "Cách tìm",
    "right": "đúng",
    "wrong": "sai",
    "unknown": "chưa biết nhãn",
    "hits": "Kết quả đặt cạnh nhau",
    "example": "Một truy vấn làm ví dụ: truy vấn mà các hàng khác nhau nhiều nhất",
    "quality": "Chất lượng",
    "quality_hint": "Trung bình trên {judged} trong {queries} truy vấn; vạch mảnh là khoảng bootstrap 95 %.",
    "agreement": "Mức đồng thuận giữa các hàng",
    "overlap": "Overlap@{k}: số ảnh chung của hai hàng trong {k} vị trí đầu",
    "rbo": "Rank-biased overlap (p = 0,9) trên {depth} vị trí đầu",
    "shows": "So sánh này cho thấy gì",
    "classes": "Theo nhãn",
    "queries": "số truy vấn",
    "weak": "Tìm kiếm còn yếu ở đâu",
    "weak_hint": "Theo {way}, kém nhất trước; trong {k} vị trí đầu chỉ tính bằng số ảnh đúng có trong thư viện.",
    "taken_for": "bị nhầm với (số ảnh)",
    "weak_queries": "Các truy vấn kém nhất, cùng kết quả sai đầu tiên",
    "nothing": "không có gì để hiển thị",
    "same_hits": "Các hàng xếp hạng lại có kết quả trùng với hàng tìm chính xác thì không vẽ.",
    "chroma": "Chroma: {name} {value}",
    "library": "Thư viện {library}: {images} ảnh, bộ mã hóa {encoder}, điểm ảnh {size} x {size}",
    "definitions": "Định nghĩa",
    "failed": "Các ảnh bị bỏ qua",
    "define_precision_at_1": "tỉ lệ truy vấn có kết quả đầu tiên cùng nhãn với truy vấn",
    "define_precision_at_k": "tỉ lệ ảnh cùng nhãn với truy vấn trong k vị trí đầu; vị trí trống tính là sai",
    "define_average_precision": "tổng precision tại vị trí của từng ảnh cùng nhãn với truy vấn, chia cho số ảnh như vậy "
    "trong thư viện (AP của TREC); ảnh không được xếp hạng đóng góp 0",
    "define_average_precision_at_k": "cũng tổng ấy nhưng chỉ trên k vị trí đầu, chia cho min(k, số ảnh cùng nhãn)",
    "define_map": "trung bình của average_precision trên các truy vấn",
    "define_map_at_k": "trung bình của average_precision_at_k trên các truy vấn",
    "define_recall_at_k": "tỉ lệ k ảnh đầu của phép tìm chính xác (cùng độ đo) mà chỉ mục cũng tìm thấy",
    "define_overlap_at_k": "số ảnh chung của hai hàng trong k vị trí đầu, chia cho k",
    "define_rank_biased_overlap": "mức trùng kỳ vọng với người đọc đi tiếp sang vị trí sau với xác suất 0,9 "
    "(Webber và cộng sự 2010), trên số vị trí đầu cho bởi depth",
    "define_interval": "khoảng bootstrap phân vị 95 % trên các truy vấn",
}

VIETNAMESE_NOTES: dict[str, str] = {
    "no_labels": "Chưa biết chất lượng: thư viện không có nhãn (ảnh trong thư mục con lấy tên thư mục con làm nhãn).",
    "query_label_unknown": "Chưa biết chất lượng: tên thư mục của truy vấn không trùng nhãn nào của thư viện, và cũng "
    "không có nhãn nào được cho.",
    "label_absent": "Chưa biết chất lượng: thư viện không có ảnh nào mang nhãn {label}.",
    "only_itself": "Chưa biết chất lượng: truy vấn là ảnh duy nhất mang nhãn {label} trong thư viện.",
    "left_out": "Chính ảnh truy vấn có trong thư viện ({ids}) và đã được loại khỏi kết quả của nó.",
    "nothing_left": "Thư viện không có ảnh nào khác ngoài truy vấn: không có gì để xếp hạng.",
    "fewer_than_k": "Chỉ xếp hạng được {images} ảnh, ít hơn k = {k}: P@{k} cao nhất là {ceiling}.",
    "few_relevant": "Chỉ có {relevant} ảnh cùng nhãn với truy vấn, ít hơn k = {k}: P@{k} cao nhất là {ceiling}.",
    "pixels_missing": "Không so sánh theo điểm ảnh: chưa có hàng điểm ảnh {size} x {size} nào; hãy lập chỉ mục lại "
    "thư mục.",
    "pixels_partial": "{missing} ảnh chưa có hàng điểm ảnh {size} x {size} nên ở đó tính là không tìm thấy; hãy lập chỉ "
    "mục lại thư mục.",
    "hnsw_missing": "Không hỏi được HNSW: {reason}",
    "one_query": "Một truy vấn chỉ là ví dụ, chưa phải bằng chứng: muốn đo chất lượng, hãy dùng một thư mục truy vấn có "
    "nhãn.",
    "unlabelled_queries": "{count} trong {queries} truy vấn không nằm trong thư mục con nào: không có nhãn nên chỉ được "
    "tính vào mức đồng thuận.",
    "absent_labels": "{count} trong {queries} truy vấn mang nhãn mà thư viện không có ({labels}): chỉ được tính vào mức "
    "đồng thuận.",
    "alone_labels": "{count} trong {queries} truy vấn là ảnh duy nhất mang nhãn của nó: chỉ được tính vào mức đồng thuận.",
    "queries_left_out": "{count} trong {queries} truy vấn có sẵn trong thư viện: mỗi ảnh được loại khỏi kết quả của "
    "chính nó.",
    "failed_queries": "{count} ảnh truy vấn không mở được và đã bị bỏ qua.",
    "no_quality": "Chưa biết chất lượng: không truy vấn nào có nhãn mà thư viện còn ảnh khác.",
    "cancelled": "Đã hủy: số liệu mới tính trên {done} trong {total} truy vấn.",
    "unit_rows": "Do cách xây dựng, không phải phát hiện: các hàng embedding có độ dài 1 nên L2 và cosine xếp hạng giống "
    "hệt nhau (L2^2 = 2 - 2 cosine).",
    "near_zero_means": "Gần như do cách xây dựng: Pearson là cosine của các hàng đã trừ trung bình, mà trung bình không "
    "chiếm quá {share} độ dài của hàng embedding nào, nên ở đó hai độ đo xếp hạng gần như nhau.",
    "same_images": "Do cách xây dựng: không có quá k = {k} ảnh để xếp hạng, nên hàng nào cũng gồm đúng những ảnh ấy.",
    "all_candidates": "Do cách xây dựng: chỉ mục đã trả về mọi ảnh làm ứng viên, nên xếp hạng lại chính là tìm chính xác.",
    "index_misses": "Hàng hnsw và hàng tìm chính xác của cùng độ đo khác nhau ở những ảnh chỉ mục bỏ sót, không phải ở "
    "độ đo; AP của hàng hnsw coi ảnh không được trả về là không tìm thấy.",
    "first_hits": "Kết quả đầu tiên: {groups}.",
    "space_overlap": "Overlap@{k} trung bình: {embedding} giữa bốn độ đo trên embedding, {pixels} giữa bốn độ đo trên "
    "điểm ảnh, {between} giữa hai không gian.",
    "best": "P@{k} cao nhất: {row} với {mean} [{low}, {high}] trên {queries} truy vấn.",
    "tied": "Các truy vấn này không phân biệt được với hàng ấy (hiệu theo cặp có thể bằng 0): {rows}.",
    "worse": "Thấp hơn rõ rệt (khoảng của hiệu theo cặp không chứa 0): {rows}.",
    "spaces_differ": "{better} hơn {worse} về P@{k}: {mean} [{low}, {high}] (hàng tốt nhất của mỗi bên).",
    "spaces_tied": "Không phân biệt được embedding và điểm ảnh về P@{k}: {mean} [{low}, {high}] (hàng tốt nhất của mỗi "
    "bên).",
    "recall": "Chỉ mục tìm lại được {l2} (l2) và {cosine} (cosine) của {k} ảnh đầu khi tìm chính xác.",
    "unequal_classes": "Theo nhãn, P@{k} của hàng tốt nhất đi từ {low} ({worst}) đến {high} ({top}).",
}


def words(language: Language) -> Mapping[str, str]:
    """The captions of a comparison in `language`."""
    return WORDS if language == "en" else VIETNAMESE_WORDS


def sentence(language: Language) -> Callable[[Note], str]:
    """How a note is said in `language`."""
    return str if language == "en" else lambda note: VIETNAMESE_NOTES[note.kind].format(**_in_vietnamese(note.facts))


def told(language: Language, compared: Compared) -> Compared:
    """The comparison with the reasons of its failures in `language`."""
    if not isinstance(compared, QuerySetComparison):
        return compared
    failed = [replace(failure, reason=translated(language, failure.reason)) for failure in compared.failed]
    return replace(compared, failed=failed)


def _in_vietnamese(facts: Mapping[str, Scalar]) -> dict[str, object]:
    """The facts of a note; its numbers are texts with a decimal point."""
    return {
        name: fact.replace(".", ",")
        if isinstance(fact, str) and _NUMBER.fullmatch(fact)
        else translated("vi", fact)
        if isinstance(fact, Message)
        else fact
        for name, fact in facts.items()
    }
