"""Words for people and brands. All invented or very common; nobody real is meant."""

from __future__ import annotations

SURNAMES = [
    ("김", "kim"), ("이", "lee"), ("박", "park"), ("최", "choi"), ("정", "jung"), ("강", "kang"), ("조", "cho"),
    ("윤", "yoon"), ("장", "jang"), ("임", "lim"), ("한", "han"), ("오", "oh"), ("서", "seo"), ("신", "shin"),
    ("권", "kwon"), ("황", "hwang"), ("안", "ahn"), ("송", "song"), ("류", "ryu"), ("홍", "hong"),
]  # fmt: skip
WOMEN = [
    ("서연", "seoyeon"), ("민서", "minseo"), ("지우", "jiwoo"), ("서현", "seohyun"), ("하은", "haeun"),
    ("지민", "jimin"), ("수빈", "subin"), ("예은", "yeeun"), ("지현", "jihyun"), ("은지", "eunji"), ("유진", "yujin"),
    ("혜진", "hyejin"), ("미영", "miyoung"), ("소희", "sohee"), ("다은", "daeun"), ("채원", "chaewon"),
    ("나연", "nayeon"), ("보람", "boram"), ("아름", "areum"), ("정은", "jungeun"),
]  # fmt: skip
MEN = [
    ("민준", "minjun"), ("서준", "seojun"), ("도윤", "doyun"), ("예준", "yejun"), ("지호", "jiho"), ("준서", "junseo"),
    ("현우", "hyunwoo"), ("지훈", "jihoon"), ("동현", "donghyun"), ("성민", "sungmin"), ("준영", "junyoung"),
    ("상훈", "sanghoon"), ("재현", "jaehyun"), ("태양", "taeyang"), ("승우", "seungwoo"), ("건우", "gunwoo"),
    ("영호", "youngho"), ("진수", "jinsu"), ("우진", "woojin"), ("시윤", "siyun"),
]  # fmt: skip
ENGLISH_SURNAMES = ["Smith", "Lee", "Garcia", "Chen", "Patel", "O'Neill", "Brown", "Kim", "Nguyen", "Müller"]
ENGLISH_WOMEN = ["Emma", "Olivia", "Grace", "Chloe", "Zoë", "Hannah", "Maya", "Ruth"]
ENGLISH_MEN = ["Liam", "Noah", "James", "Ethan", "Ravi", "Daniel", "Omar", "Jack"]
CHINESE_SURNAMES = [("王", "wang"), ("李", "li"), ("張", "zhang"), ("陳", "chen"), ("林", "lin"), ("黃", "huang")]
CHINESE_WOMEN = [("雅婷", "yating"), ("靜怡", "jingyi"), ("欣", "xin"), ("美玲", "meiling"), ("思雨", "siyu")]
CHINESE_MEN = [("偉", "wei"), ("俊傑", "junjie"), ("浩然", "haoran"), ("明", "ming"), ("志強", "zhiqiang")]

# In the contract, harmless, and yet what breaks careless templates and pages.
EDGE_NAMES = [
    ("지은🌸", "김"),
    ("مريم", "العلي"),
    ("נועה", "כהן"),
    ("가나다라마바사아자차" * 20, "이"),  # 200 characters
    ("{{ customer.email }}", "박"),
    ("<b>민지</b>", "최"),
    ("{% for x in y %}", "정"),
    ('O\'Brien "Bob" & Söhne', "Ryan"),
    ("👩‍👩‍👧‍👦 우리집", "조"),
    ("  하늘\u200b ", "한"),
]

BRANDS = [
    "온다람", "하루결", "소솔담", "모어빛", "노을담", "달무늬", "별소금", "나린숲", "도란집", "가온실",
    "라온결", "미리내담", "바람솔", "사부작", "아라빛", "여울담", "초록솔", "푸른담", "해담비", "윤슬가",
    "다솜결", "마루온", "늘봄담", "새벽솔", "단비울", "꽃담은", "보늬결", "솔잎담", "이든빛", "찬솔가",
    "한별담", "휘담은", "로운결", "시나브", "은가람", "채담빛", "토담온", "파란결", "햇살곳", "그루담",
]  # fmt: skip
