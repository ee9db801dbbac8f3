"""Every text of the page, in English and Vietnamese. The tab of the chat keeps its own three."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

Language = Literal["en", "vi"]

TEXTS: dict[str, tuple[str, str]] = {
    "title": ("Image search", "Tìm kiếm ảnh"),
    "lead": (
        "Find pictures by a picture, by words, or both. Everything runs on this machine.",
        "Tìm ảnh bằng ảnh, bằng mô tả, hoặc cả hai. Mọi thứ chạy ngay trên máy này.",
    ),
    "search_tab": ("Search", "Tìm kiếm"),
    "index_tab": ("Index", "Lập chỉ mục"),
    "compare_tab": ("Compare", "So sánh"),
    "chat_tab": ("Chat", "Trò chuyện"),
    "chat_hint": (
        "Find red apples - more like the second one - compare the measures for #1",
        "Tìm táo đỏ - thêm ảnh giống cái thứ hai - so sánh các độ đo cho #1",
    ),
    "chat_try_describe": ("what is in this library", "trong thư viện có gì"),
    "chat_try_newest": ("show the 5 newest pictures", "xem 5 ảnh mới nhất"),
    "chat_try_twice": ("which pictures are there twice", "ảnh nào bị trùng"),
    "chat_try_help": ("what can you do", "bạn làm được gì"),
    "chat_stop": ("Stop", "Dừng"),
    "chat_clear": ("New chat", "Cuộc trò chuyện mới"),
    "library": ("Library", "Thư viện"),
    "image": ("Picture to search with", "Ảnh dùng để tìm"),
    "text": ("What to search for", "Mô tả ảnh cần tìm"),
    "text_hint": ("Describe it, or paste or drop a picture", "Mô tả ảnh, hoặc dán hay thả một ảnh vào"),
    "image_hint": ("Search with a picture: pick, paste or drop one", "Tìm bằng ảnh: chọn, dán hoặc thả một ảnh"),
    "drop_here": ("Drop the picture to search with it", "Thả ảnh để tìm bằng ảnh đó"),
    "first_of_many": ("The first of {count} files was taken.", "Đã lấy tệp đầu tiên trong {count} tệp."),
    "no_picture": ("This file is no usable picture: {reason}.", "Tệp này không phải ảnh dùng được: {reason}."),
    "unreachable": ("The app cannot be reached; try again.", "Không kết nối được với ứng dụng; hãy thử lại."),
    "search": ("Search", "Tìm"),
    "try": ("Try:", "Thử:"),
    "filters": ("Filter", "Bộ lọc"),
    "all": ("all", "tất cả"),
    "more_options": ("Options", "Tùy chọn"),
    "at_most": ("At most", "Nhiều nhất"),
    "not_chip": ("not {text}", "không có {text}"),
    "remove": ("Remove", "Bỏ"),
    "history": ("History", "Lịch sử"),
    "sort": ("Order", "Thứ tự"),
    "best_first": ("Best first", "Giống nhất trước"),
    "newest_first": ("Newest first", "Mới nhất trước"),
    "oldest_first": ("Oldest first", "Cũ nhất trước"),
    "name_first": ("By name", "Theo tên"),
    "largest_first": ("Largest first", "Lớn nhất trước"),
    "tile_size": ("Size of the pictures", "Kích thước ảnh"),
    "copied": ("Copied", "Đã sao chép"),
    "copied_upload": (
        "Copied; your picture is kept for an hour after its last use",
        "Đã sao chép; ảnh của bạn được giữ một giờ kể từ lần dùng cuối",
    ),
    "export": ("Export", "Xuất"),
    "counted": ("{count} pictures", "{count} ảnh"),
    "copies": ("{count} copies", "{count} bản giống nhau"),
    "found": (
        "{count} pictures · {measure}, {better} · {seconds:.0f} ms",
        "{count} ảnh · {measure}, {better} · {seconds:.0f} ms",
    ),
    "value": ("{value:.3g}", "{value:.3g}"),
    "size": ("{width} × {height} · {megabytes:.2f} MB", "{width} × {height} · {megabytes:.2f} MB"),
    "previous": ("Previous picture", "Ảnh trước"),
    "next": ("Next picture", "Ảnh sau"),
    "close": ("Close", "Đóng"),
    "favourite": ("☆ Favourite", "☆ Yêu thích"),
    "favourite_not": ("★ Favourite", "★ Yêu thích"),
    "original_size": ("Original size", "Kích thước gốc"),
    "give_label": ("Label (empty: the folder's name)", "Nhãn (để trống: tên thư mục)"),
    "fact_score": ("value", "giá trị"),
    "why_asking": ("Asking the encoder…", "Đang hỏi bộ mã hóa…"),
    "why_coming": ("The map of what speaks for it is being drawn…", "Đang vẽ bản đồ những chỗ ủng hộ việc khớp…"),
    "not_like": ("Not like this", "Không giống ảnh này"),
    "yes": ("yes", "có"),
    "no": ("no", "không"),
    "weaker_left_out": ("What is weaker than {match} is left out.", "Đã bỏ các ảnh khớp kém hơn mức {match}."),
    "not_text": ("…but not", "…nhưng không có"),
    "no_library": (
        "There is no library yet; index a folder first.",
        "Chưa có thư viện nào; hãy lập chỉ mục một thư mục trước.",
    ),
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
    "refine": (
        "Let neighbours refine the order of a picture search",
        "Dùng ảnh lân cận để xếp lại kết quả tìm bằng ảnh",
    ),
    "refine_hint": (
        "Where it helps, and only for cosine and l2; the values stay those of the measure.",
        "Chỉ khi có ích, với cosine và l2; giá trị vẫn là của độ đo.",
    ),
    "refined": ("Order refined by what their neighbours show.", "Thứ tự đã xếp lại theo các ảnh lân cận."),
    "match": ("At least this match", "Mức khớp tối thiểu"),
    "match_hint": (
        "weak shows all, fair and strong only what fits better than chance in this library.",
        "weak: hiện tất cả; fair (khá khớp) và strong (khớp rõ): chỉ hiện ảnh khớp hơn hẳn ngẫu nhiên trong thư viện này.",
    ),
    "nothing_fits": (
        "Nothing here fits: every match is weak, as good as chance.",
        "Không có ảnh nào phù hợp: mọi kết quả đều khớp yếu, không hơn ngẫu nhiên.",
    ),
    "left_out": ("{count} hits that match less are left out.", "Đã bỏ {count} kết quả khớp kém hơn."),
    "strong": ("strong", "khớp rõ"),
    "fair": ("fair", "khá khớp"),
    "weak": ("weak", "khớp yếu"),
    "also": ("More parts, one a line", "Thêm thành phần, mỗi dòng một"),
    "also_hint": (
        "image=ID:0.5, text=red:2, not_image=ID, not_text=snow; the number is the weight",
        "image=ID:0.5, text=màu đỏ:2, not_image=ID, not_text=tuyết; con số là trọng số",
    ),
    "clear_history": ("Clear history", "Xóa lịch sử"),
    "favourites": ("Favourites", "Yêu thích"),
    "kept_here": ("Kept in this browser only.", "Chỉ lưu trong trình duyệt này."),
    "an_upload": ("an uploaded picture", "ảnh tải lên"),
    "like_image": ("like {name}", "giống {name}"),
    "compare_this": ("Compare measures", "So sánh độ đo"),
    "save_label": ("Save label", "Lưu nhãn"),
    "suggested": ("Suggested", "Gợi ý"),
    "labelled": ("Saved: {label}", "Đã lưu: {label}"),
    "unlabelled": ("The label was taken away.", "Đã bỏ nhãn."),
    "why": ("Why this match?", "Vì sao khớp?"),
    "why_text": ("Classes that carry the words:", "Các lớp mang ý nghĩa của lời:"),
    "fact_match": ("match", "mức khớp"),
    "fact_place": ("place", "nơi chụp"),
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
    "more_like_this": ("More like this", "Thêm ảnh giống thế này"),
    "copy_link": ("Copy link", "Sao chép liên kết"),
    "download": ("Download results", "Tải kết quả"),
    "broken": (
        "Something went wrong on our side; the log of the app has the details.",
        "Có lỗi từ phía ứng dụng; chi tiết nằm trong nhật ký của ứng dụng.",
    ),
    "gone": (
        "This picture cannot be opened any more ({reason}); index its folder again.",
        "Không mở được ảnh này nữa ({reason}); hãy lập chỉ mục lại thư mục của nó.",
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
    "encoder_auto": ("auto: course where it can be had, else mini", "auto: course nếu có được, nếu không thì mini"),
    "encoder_mini": (
        "mini: at once and offline, things and animals, English and Vietnamese",
        "mini: dùng được ngay, không cần mạng, đồ vật và con vật, tiếng Anh và tiếng Việt",
    ),
    "encoder_choice": ("{name}: {purpose} ({size} MB)", "{name}: {purpose} ({size} MB)"),
    "anew": ("Encode a library anew", "Mã hóa lại một thư viện"),
    "anew_hint": (
        "Its pictures get rows of the encoder chosen here; ids, labels and favourites stay. Until it is done, and if it is "
        "cancelled, the library is as it was.",
        "Các ảnh được mã hóa lại bằng bộ mã hóa chọn ở đây; id, nhãn và mục yêu thích giữ nguyên. Cho đến khi xong, và nếu "
        "bị hủy, thư viện vẫn như cũ.",
    ),
    "anew_encoder": ("Encoder", "Bộ mã hóa"),
    "anew_own": ("its own, as it is now", "bộ mã hóa của chính nó, bản hiện tại"),
    "anew_start": ("Encode anew", "Mã hóa lại"),
    "anew_offer": (
        "{library} was made with an older recipe of its encoder: encoding it anew gives better results.",
        "{library} được tạo bằng bản cũ của bộ mã hóa: mã hóa lại sẽ cho kết quả tốt hơn.",
    ),
    "anew_done": (
        "{images} pictures of {library} now have rows of {encoder}, {thumbnails} of them read from thumbnails, {failed} failed, in "
        "{seconds:.1f} s",
        "{images} ảnh của {library} giờ được mã hóa bằng {encoder}, {thumbnails} ảnh đọc từ hình thu nhỏ, lỗi {failed}, trong "
        "{seconds:.1f} giây",
    ),
    "anew_cancelled": ("Cancelled; the library is as it was.", "Đã hủy; thư viện vẫn như cũ."),
    "libraries": ("Libraries", "Các thư viện"),
    "library_facts": ("{images} pictures · {size:.1f} MB · {encoder}", "{images} ảnh · {size:.1f} MB · {encoder}"),
    "library_changed": ("Last changed {time}", "Thay đổi lần cuối {time}"),
    "library_place": ("Kept in {place}", "Lưu ở {place}"),
    "library_default": ("default", "mặc định"),
    "library_damaged": ("Cannot be opened: {reason}", "Không mở được: {reason}"),
    "library_away": ("{count} pictures are away", "{count} ảnh đang vắng mặt"),
    "folder_away": ("not there now", "hiện không có ở đó"),
    "index_again": ("Index again", "Lập chỉ mục lại"),
    "make_default": ("Make it the default", "Đặt làm mặc định"),
    "new_name": ("New name", "Tên mới"),
    "rename": ("Rename", "Đổi tên"),
    "delete": ("Delete…", "Xóa…"),
    "delete_sure": (
        "Delete library {library}? What it knows is gone then, with the labels given by hand. The pictures stay where they are.",
        "Xóa thư viện {library}? Mọi thứ thư viện biết sẽ mất, kể cả nhãn đặt bằng tay. Các ảnh vẫn ở nguyên chỗ cũ.",
    ),
    "delete_yes": ("Delete the library", "Xóa thư viện"),
    "delete_no": ("Keep it", "Giữ lại"),
    "arriving": (
        "The demo library is being made; this happens once and takes some seconds…",
        "Đang tạo thư viện mẫu; việc này chỉ xảy ra một lần và mất vài giây…",
    ),
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
    "search_indexed": ("Search the {count} pictures of {library}", "Tìm trong {count} ảnh của {library}"),
    "compare": ("Compare", "So sánh"),
    "compare_image": ("Query picture", "Ảnh truy vấn"),
    "compare_id": ("…or an image id from a search", "…hoặc id ảnh từ một kết quả tìm"),
    "compare_label": ("What it shows (its label)", "Ảnh chụp gì (nhãn của nó)"),
    "compare_folder": ("…or a folder of labelled queries", "…hoặc một thư mục truy vấn có nhãn"),
    "compare_folder_hint": ("/path/to/test, one sub-folder a label", "/đường/dẫn/tới/test, mỗi thư mục con một nhãn"),
    "compare_hit": ("Hit to explain", "Kết quả cần giải thích"),
    "why_explained": (
        "{measure} on {space}: {value:.4g}. Method: {method}. Orange speaks for the match, blue against it.",
        "{measure} trên {space}: {value:.4g}. Phương pháp: {method}. Màu cam ủng hộ việc khớp, màu xanh thì ngược lại.",
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
    "fact_size": ("size", "kích thước"),
    "fact_taken": ("taken", "chụp lúc"),
    "fact_camera": ("camera", "máy ảnh"),
    "fact_path": ("file", "tệp"),
    "collect_tab": ("Collect", "Thu thập"),
    "collect_lead": (
        "From a few words to a clean, split data set of your own. Start it again at any time: it goes on where it stopped. Mind the licences of what you collect.",
        "Từ vài từ khóa đến một bộ dữ liệu sạch, đã chia, của riêng bạn. Có thể chạy lại bất cứ lúc nào: công việc tiếp tục từ chỗ đã dừng. Hãy lưu ý giấy phép của ảnh bạn thu thập.",
    ),
    "collect_plan_crawl": (
        "Opens the search page of each word, scrolls or turns pages, and writes down the addresses of the pictures.",
        "Mở trang tìm kiếm của từng từ khóa, cuộn hoặc lật trang, và ghi lại địa chỉ các ảnh.",
    ),
    "collect_plan_download": (
        "Fetches them at a polite pace and as robots.txt allows; nothing is fetched twice or overwritten.",
        "Tải ảnh với nhịp độ lịch sự và theo robots.txt; không tải gì hai lần, không ghi đè.",
    ),
    "collect_plan_clean": (
        "Moves broken, tiny and doubled pictures aside, deletes none, and makes the rest plain RGB.",
        "Tách riêng ảnh hỏng, quá nhỏ và trùng lặp, không xóa ảnh nào, và đưa phần còn lại về RGB.",
    ),
    "collect_plan_split": (
        "Puts some pictures of each class into test and the others into train; near-duplicates never into both.",
        "Đưa một số ảnh của mỗi lớp vào test, số còn lại vào train; ảnh gần trùng không bao giờ nằm ở cả hai.",
    ),
    "collect_url": ("Address of a search page", "Địa chỉ trang tìm kiếm"),
    "collect_url_hint": (
        "https://www.example.org/search?q={{search_term}}",
        "https://www.example.org/search?q={{search_term}}",
    ),
    "collect_url_info": (
        "{{search_term}} stands where the word goes; {{page}} counts pages.",
        "{{search_term}} là chỗ đặt từ khóa; {{page}} là số trang.",
    ),
    "collect_words": ("Categories and words", "Nhóm và từ khóa"),
    "collect_words_hint": (
        "fruit: orange, apple\nanimal: lion, cheetah",
        "trái cây: cam, táo\nđộng vật: sư tử, báo săn",
    ),
    "collect_words_info": (
        "A category and its words a line, or just a word a line.",
        "Mỗi dòng một nhóm và các từ khóa của nó, hoặc mỗi dòng một từ khóa.",
    ),
    "collect_name": ("Name of the data set", "Tên bộ dữ liệu"),
    "collect_name_info": ("Also the library's, once indexed.", "Cũng là tên thư viện khi lập chỉ mục."),
    "collect_count": ("Pictures a word", "Số ảnh mỗi từ khóa"),
    "collect_mode": ("How the search page is read", "Cách đọc trang tìm kiếm"),
    "collect_mode_browser": ("In a browser (loads as it scrolls)", "Bằng trình duyệt (trang tải dần khi cuộn)"),
    "collect_mode_html": ("Plain HTML", "HTML tĩnh"),
    "collect_mode_json": ("API with JSON answers", "API trả về JSON"),
    "collect_items": ("Path to the list of results", "Đường dẫn tới danh sách kết quả"),
    "collect_image": ("Path to a result's picture", "Đường dẫn tới ảnh của một kết quả"),
    "collect_page": ("Path to its web page", "Đường dẫn tới trang web của ảnh"),
    "collect_license": ("Path to its licence", "Đường dẫn tới giấy phép của ảnh"),
    "collect_contact": ("Your e-mail or web page", "E-mail hoặc trang web của bạn"),
    "collect_contact_info": (
        "Sent with every request, so that a site's owner can reach you.",
        "Được gửi kèm mỗi yêu cầu, để chủ trang web có thể liên hệ với bạn.",
    ),
    "collect_more": ("More settings", "Thiết lập khác"),
    "collect_folder": ("Folder for the data set", "Thư mục chứa bộ dữ liệu"),
    "collect_folder_info": (
        "Empty: a folder of the data set's name in the app's own data folder.",
        "Để trống: một thư mục theo tên bộ dữ liệu, trong thư mục dữ liệu của ứng dụng.",
    ),
    "collect_delay": ("Seconds between requests", "Số giây giữa hai yêu cầu"),
    "collect_min_pixels": ("Smallest side, pixels", "Cạnh nhỏ nhất, pixel"),
    "collect_near": ("Near-duplicate bits (-1: off)", "Số bit gần trùng (-1: tắt)"),
    "collect_train": ("Train pictures a class", "Số ảnh train mỗi lớp"),
    "collect_test": ("Test pictures a class", "Số ảnh test mỗi lớp"),
    "collect_seed": ("Seed of the split", "Seed khi chia"),
    "collect_text": ("Everything as text (spec file)", "Toàn bộ dưới dạng văn bản (tệp thiết lập)"),
    "collect_spec": ("Spec, YAML or JSON", "Thiết lập, YAML hoặc JSON"),
    "collect_spec_info": (
        "While there is text here it counts instead of the form; name, folder and step stay as chosen.",
        "Khi ô này có nội dung, nó thay cho biểu mẫu; tên, thư mục và bước vẫn theo lựa chọn của bạn.",
    ),
    "collect_from_form": ("Fill in from the form", "Lấy từ biểu mẫu"),
    "collect_from_file": ("Open a file", "Mở tệp"),
    "collect_step": ("Steps", "Các bước"),
    "collect_all": ("All", "Tất cả"),
    "collect_crawl": ("Crawl", "Tìm địa chỉ"),
    "collect_download": ("Download", "Tải về"),
    "collect_clean": ("Clean", "Làm sạch"),
    "collect_split": ("Split", "Chia"),
    "collect_start": ("Start", "Bắt đầu"),
    "collect_begins": ("Looking at what is there already…", "Đang xem những gì đã có…"),
    "collect_no_place": (
        "The address of the search page is '{url}'; it needs {{search_term}} where the word goes, like https://www.example.org/search?q={{search_term}}.",
        "Địa chỉ trang tìm kiếm là '{url}'; cần có {{search_term}} ở chỗ đặt từ khóa, ví dụ https://www.example.org/search?q={{search_term}}.",
    ),
    "collect_no_words": (
        "There are no words to collect pictures for; write a line like fruit: orange, apple.",
        "Chưa có từ khóa nào để thu thập ảnh; hãy viết một dòng như trái cây: cam, táo.",
    ),
    "collect_half_line": (
        "The line '{line}' lacks a category or words; write it like fruit: orange, apple.",
        "Dòng '{line}' thiếu tên nhóm hoặc từ khóa; hãy viết như trái cây: cam, táo.",
    ),
    "collect_needs": (
        "There is no {name} in {folder} yet; run the step before this one first.",
        "Trong {folder} chưa có {name}; hãy chạy bước trước đó đã.",
    ),
    "collect_foreign": (
        "Folder {folder} holds pictures that were not collected here; choose another folder, so that cleaning leaves yours alone.",
        "Thư mục {folder} chứa ảnh không phải do thu thập ở đây; hãy chọn thư mục khác để bước làm sạch không đụng tới ảnh của bạn.",
    ),
    "collect_busy": (
        "Another run is writing to {folder}; wait for it or cancel it, or choose another name.",
        "Một lượt chạy khác đang ghi vào {folder}; hãy chờ hoặc hủy nó, hoặc chọn tên khác.",
    ),
    "collect_crawled": (
        "{urls} picture addresses for {terms} words ({kept} of them from an earlier run), {licensed} with a licence.",
        "{urls} địa chỉ ảnh cho {terms} từ khóa ({kept} từ lần chạy trước), {licensed} có giấy phép.",
    ),
    "collect_by_word": ("Word by word", "Theo từng từ khóa"),
    "collect_enough": ("as many as wanted", "đủ số lượng"),
    "collect_nothing_new": ("nothing new came", "không có thêm ảnh mới"),
    "collect_last_page": ("last page", "trang cuối"),
    "collect_max_rounds": ("page limit reached", "đạt giới hạn số trang"),
    "collect_max_seconds": ("time limit reached", "đạt giới hạn thời gian"),
    "collect_stopped": ("cancelled", "đã hủy"),
    "collect_failed": ("failed", "lỗi"),
    "collect_no_contact": (
        "No e-mail or web page was given; give one, so that a site's owner can reach you.",
        "Chưa có e-mail hay trang web; hãy điền để chủ trang web có thể liên hệ với bạn.",
    ),
    "collect_downloaded": (
        "{saved} pictures saved ({size:.1f} MB), {kept} were there already, {failed} failed, {doubled} addresses were listed twice; {seconds:.1f} s.",
        "Đã lưu {saved} ảnh ({size:.1f} MB), {kept} ảnh đã có sẵn, {failed} lỗi, {doubled} địa chỉ bị lặp; {seconds:.1f} giây.",
    ),
    "collect_cleaned": (
        "{checked} files checked: {kept} kept, {removed} moved aside{reasons}, {converted} converted to RGB.",
        "Đã kiểm tra {checked} tệp: giữ {kept}, tách riêng {removed}{reasons}, chuyển {converted} sang RGB.",
    ),
    "collect_quarantine": ("Nothing is deleted; moved aside to", "Không tệp nào bị xóa; các tệp tách riêng nằm ở"),
    "collect_not_an_image": ("not an image", "không phải ảnh"),
    "collect_corrupt": ("broken", "bị hỏng"),
    "collect_too_small": ("too small", "quá nhỏ"),
    "collect_duplicate": ("duplicate", "trùng lặp"),
    "collect_near_duplicate": ("near-duplicate", "gần trùng"),
    "collect_divided": (
        "{classes} classes: {train} train and {test} test pictures; {left_out} over the number, {near} too like a test picture.",
        "{classes} lớp: {train} ảnh train và {test} ảnh test; {left_out} ảnh vượt số lượng, {near} ảnh quá giống ảnh test.",
    ),
    "collect_by_class": ("Class by class", "Theo từng lớp"),
    "collect_no_test": (
        "{count} classes have no test picture: too few pictures that are not near-duplicates.",
        "{count} lớp không có ảnh test: quá ít ảnh không gần trùng nhau.",
    ),
    "collect_cancelled": (
        "Cancelled; what was done is kept. Start again to go on.",
        "Đã hủy; phần đã làm được giữ lại. Bấm Bắt đầu để làm tiếp.",
    ),
    "collect_lies": ("The data set is in", "Bộ dữ liệu nằm ở"),
    "collect_so_far": ("What there is so far is in", "Phần đã có nằm ở"),
    "collect_pictures": ("Some of the pictures", "Một số ảnh"),
    "collect_index": ("Index this data set", "Lập chỉ mục bộ dữ liệu này"),
}


def said(language: Language, key: str, **values: object) -> str:
    """The text `key` in `language`, with `values` filled in; Vietnamese has decimal commas."""
    if language == "en":
        return TEXTS[key][0].format(**values)
    return TEXTS[key][1].format(**with_commas(values))


def with_commas(values: Mapping[str, object]) -> dict[str, object]:
    """`values` to be filled into a Vietnamese text."""
    return {name: _WithComma(value) if isinstance(value, float) else value for name, value in values.items()}


class _WithComma(float):
    """A number that is written with a decimal comma."""

    def __format__(self, spec: str) -> str:
        return super().__format__(spec).replace(".", ",")


def language_of(asked: str | None, accepted: str | None) -> Language:
    """The page's language from `?lang=` or else the browser's Accept-Language header."""
    first = asked or (accepted or "").split(",")[0]
    return "vi" if first.strip().lower().startswith("vi") else "en"
