"""What the encoders are for, in Vietnamese by nickname; in English it stands in `encoders.nicknames`."""

from __future__ import annotations

VIETNAMESE = {
    "fast": "tốt hơn course và gần nhanh bằng, tiếng Anh",
    "small": "tải ít nhất, tốt hơn fast nhưng chậm hơn gấp đôi, tiếng Anh; giấy phép chỉ cho nghiên cứu",
    "course": "lựa chọn của auto, và của OpenCLIPEmbeddingFunction trong Chroma: để so sánh với khóa học",
    "multilingual": "lời tiếng Việt và 100 thứ tiếng khác, ảnh nhanh như course",
    "balanced": "tốt hơn fast nhiều, nhanh bằng một phần ba, nhiều thứ tiếng",
    "best": "tốt nhất trong số này, nhiều thứ tiếng; cho máy có card đồ họa",
}
