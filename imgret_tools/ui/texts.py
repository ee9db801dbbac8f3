"""Every text of the page, in English and Vietnamese. The tab of the chat keeps its own three."""

from __future__ import annotations

from typing import Literal

Language = Literal["en", "vi"]

TEXTS: dict[str, tuple[str, str]] = {
    "title": ("Image search", "Tìm kiếm ảnh"),
    "lead": (
        "Find pictures by a picture, by words, or both. Everything runs on this machine.",
        "Tìm ảnh bằng ảnh, bằng lời, hoặc cả hai. Mọi thứ chạy ngay trên máy này.",
    ),
    "search_tab": ("Search", "Tìm kiếm"),
    "index_tab": ("Index", "Lập chỉ mục"),
    "compare_tab": ("Compare", "So sánh"),
    "chat_tab": ("Chat", "Trò chuyện"),
    "library": ("Library", "Thư viện"),
    "image": ("Picture to search with", "Ảnh dùng để tìm"),
    "text": ("What the pictures should show", "Ảnh cần có nội dung gì"),
    "text_hint": ("a cheetah, a cup of coffee, the night sky…", "báo săn, tách cà phê, bầu trời đêm…"),
    "not_text": ("…but not", "…nhưng không có"),
    "image_hint": ("Drop a picture, or click to pick one", "Thả ảnh vào đây, hoặc bấm để chọn"),
    "image_url": ("…or its address (URL)", "…hoặc địa chỉ (URL) của ảnh"),
    "no_library": (
        "There is no library yet; index a folder first.",
        "Chưa có thư viện nào; hãy lập chỉ mục một thư mục trước.",
    ),
    "filters": ("Filters", "Bộ lọc"),
    "filter_label": ("Label", "Nhãn"),
    "filter_taken": ("Taken", "Thời gian chụp"),
    "filter_camera": ("Camera", "Máy ảnh"),
    "filter_size": ("Width", "Chiều rộng"),
    "filter_folder": ("Folder", "Thư mục"),
    "where": ("Other conditions", "Điều kiện khác"),
    "where_hint": ("width>=1000, taken>=2024", "width>=1000, taken>=2024"),
    "k": ("How many", "Số lượng"),
    "measure": ("Measure", "Độ đo"),
    "space": ("Space", "Không gian"),
    "closeness": ("Only close matches (%)", "Chỉ lấy kết quả đủ gần (%)"),
    "closeness_hint": (
        "0 shows all. 99: closer than 99 of 100 pairs picked by chance in this library.",
        "0 là hiện tất cả. 99: gần hơn 99 trong 100 cặp chọn ngẫu nhiên trong thư viện này.",
    ),
    "none_close": (
        "Nothing is that close: of {count} hits the best is closer than {share:.1f} % of chance pairs. Lower the slider.",
        "Không có ảnh nào gần đến thế: trong {count} kết quả, ảnh tốt nhất gần hơn {share:.1f} % cặp ngẫu nhiên. Hãy hạ thanh trượt.",
    ),
    "history": ("History", "Lịch sử"),
    "clear_history": ("Clear history", "Xóa lịch sử"),
    "favourites": ("Favourites", "Yêu thích"),
    "kept_here": ("Kept in this browser only.", "Chỉ lưu trong trình duyệt này."),
    "an_upload": ("an uploaded picture", "ảnh tải lên"),
    "like_image": ("like {name}", "giống {name}"),
    "close": ("✕ Close", "✕ Đóng"),
    "compare_this": ("Compare measures", "So sánh độ đo"),
    "favourite": ("☆ Favourite", "☆ Yêu thích"),
    "give_label": ("Label", "Nhãn"),
    "give_label_hint": (
        "Pick one or write a new one. Kept in the library; empty goes back to the folder's name.",
        "Chọn hoặc gõ nhãn mới. Nhãn được lưu trong thư viện; để trống là quay về tên thư mục.",
    ),
    "save_label": ("Save label", "Lưu nhãn"),
    "suggested": ("Suggested", "Gợi ý"),
    "labelled": ("Saved: {label}", "Đã lưu: {label}"),
    "unlabelled": ("The label was taken away.", "Đã bỏ nhãn."),
    "why": ("Why this match?", "Vì sao khớp?"),
    "why_text": ("Classes that carry the words:", "Các lớp mang ý nghĩa của lời:"),
    "fact_closeness": ("closeness", "độ gần"),
    "fact_place": ("place", "nơi chụp"),
    "closer_than": ("closer than {share:.1f} % of chance pairs", "gần hơn {share:.1f} % cặp ngẫu nhiên"),
    "map_tab": ("Map", "Bản đồ"),
    "map_draw": ("Draw the map", "Vẽ bản đồ"),
    "map_hint": (
        "Point at a dot to see its picture, or walk with the arrow keys; the wheel zooms.",
        "Trỏ vào một chấm để xem ảnh, hoặc di chuyển bằng các phím mũi tên; lăn chuột để phóng to.",
    ),
    "map_told": (
        "{shown} of {count} pictures. Alike ones lie near each other, but not all near ones are alike: the two axes show {share:.0f} % of how the embeddings differ (PCA).",
        "{shown} trên {count} ảnh. Ảnh giống nhau nằm gần nhau, nhưng không phải cứ gần là giống: hai trục chỉ thể hiện {share:.0f} % sự khác biệt của embedding (PCA).",
    ),
    "map_other": ("other", "khác"),
    "map_none": ("no label", "không nhãn"),
    "more_options": ("More options", "Thêm tùy chọn"),
    "search": ("Search", "Tìm"),
    "more_like_this": ("More like this", "Thêm ảnh giống thế này"),
    "next_page": ("Next page", "Trang sau"),
    "previous_page": ("Previous page", "Trang trước"),
    "copy_link": ("Copy link", "Sao chép liên kết"),
    "download": ("Download results", "Tải kết quả"),
    "empty": (
        "Drop a picture or write a few words, then press Search. Select a result to see more of it.",
        "Thả một ảnh hoặc gõ vài từ rồi bấm Tìm. Chọn một kết quả để xem chi tiết.",
    ),
    "found": (
        "{count} of {searched} pictures · {measure}, {better} · {seconds:.0f} ms",
        "{count} trên {searched} ảnh · {measure}, {better} · {seconds:.0f} ms",
    ),
    "higher": ("higher is better", "cao hơn là tốt hơn"),
    "lower": ("lower is better", "thấp hơn là tốt hơn"),
    "nothing": ("No picture passes the filters.", "Không có ảnh nào qua được bộ lọc."),
    "unknown_words": ("Not understood: {words}.", "Không hiểu: {words}."),
    "folder": ("Folder on this machine", "Thư mục trên máy này"),
    "folder_hint": ("/path/to/photos", "/đường/dẫn/tới/ảnh"),
    "upload": ("…or pictures, or a zip of them", "…hoặc các ảnh, hoặc một tệp zip"),
    "new_library": ("Name of the library", "Tên thư viện"),
    "encoder": ("Encoder of a new library", "Bộ mã hóa của thư viện mới"),
    "start": ("Index", "Lập chỉ mục"),
    "cancel": ("Cancel", "Hủy"),
    "progress": (
        "{done} of {total} · {rate:.1f} a second · {left} left",
        "{done} trên {total} · {rate:.1f} mỗi giây · còn {left}",
    ),
    "indexing": ("Looking through the folder…", "Đang duyệt thư mục…"),
    "done": (
        "{added} added, {updated} updated, {renamed} renamed, {unchanged} unchanged, {removed} removed, {failed} failed in {seconds:.1f} s",
        "thêm {added}, cập nhật {updated}, đổi tên {renamed}, giữ nguyên {unchanged}, gỡ {removed}, lỗi {failed} trong {seconds:.1f} giây",
    ),
    "cancelled": ("Cancelled; what was done is kept.", "Đã hủy; phần đã làm được giữ lại."),
    "failed_files": ("Files that could not be indexed", "Các tệp không lập chỉ mục được"),
    "compare": ("Compare", "So sánh"),
    "compare_image": ("Query picture", "Ảnh truy vấn"),
    "compare_id": ("…or an image id from a search", "…hoặc id ảnh từ một kết quả tìm"),
    "compare_label": ("What it shows (its label)", "Ảnh chụp gì (nhãn của nó)"),
    "compare_folder": ("…or a folder of labelled queries", "…hoặc một thư mục truy vấn có nhãn"),
    "compare_folder_hint": ("/path/to/test, one sub-folder a label", "/đường/dẫn/tới/test, mỗi thư mục con một nhãn"),
    "compare_hit": ("Hit to explain", "Kết quả cần giải thích"),
    "why_explained": (
        "{measure} on {space}: {value}. Method: {method}. Orange speaks for the match, blue against it.",
        "{measure} trên {space}: {value}. Phương pháp: {method}. Màu cam ủng hộ việc khớp, màu xanh thì ngược lại.",
    ),
    "why_occlusion": (
        "occlusion, how far the score falls when one of {cells} x {cells} cells is covered with the mean colour",
        "che khuất, tức điểm giảm bao nhiêu khi một trong {cells} x {cells} ô bị phủ bằng màu trung bình",
    ),
    "why_parts": (
        "each cell's exact part of the measure over all pixels",
        "phần đóng góp chính xác của từng ô vào độ đo trên mọi điểm ảnh",
    ),
    "why_query": ("query", "truy vấn"),
    "why_hit": ("hit", "kết quả"),
    "compare_empty": (
        "Give a query picture: every measure ranks the library for it, on embeddings, on pixels and through HNSW.",
        "Đưa vào một ảnh truy vấn: mỗi độ đo sẽ xếp hạng thư viện, theo embedding, theo điểm ảnh và qua HNSW.",
    ),
    "language": ("Language", "Ngôn ngữ"),
    "fact_id": ("id", "id"),
    "fact_label": ("label", "nhãn"),
    "fact_score": ("value", "giá trị"),
    "fact_size": ("size", "kích thước"),
    "fact_taken": ("taken", "chụp lúc"),
    "fact_camera": ("camera", "máy ảnh"),
    "fact_path": ("file", "tệp"),
}


def said(language: Language, key: str, **values: object) -> str:
    """The text `key` in `language`, with `values` filled in."""
    return TEXTS[key][0 if language == "en" else 1].format(**values)


def language_of(asked: str | None, accepted: str | None) -> Language:
    """The page's language from `?lang=` or else the browser's Accept-Language header."""
    first = asked or (accepted or "").split(",")[0]
    return "vi" if first.strip().lower().startswith("vi") else "en"
