"""The words in which gateways decline, as PortOne gives them: all that a policy sees of a hidden reason."""

from collections.abc import Mapping
from enum import Enum, auto
from types import MappingProxyType


class Saying(Enum):
    """What a card says."""

    NO_MONEY = auto()
    LIMIT_DAY = auto()
    LIMIT_MONTH = auto()
    LIMIT = auto()  # which limit is left open
    VAGUE = auto()
    OUTDATED = auto()
    LOST = auto()
    MAINTENANCE = auto()
    LINE_FAULT = auto()


PROVIDERS: Mapping[str, float] = MappingProxyType(
    {"kcp": 0.30, "html5_inicis": 0.30, "tosspayments": 0.25, "nice": 0.15}
)

_LIMIT_OR_BALANCE = (
    "[A8]고객님의 신용카드 한도가 부족하거나, 체크카드인 경우 통장잔액 부족입니다(한도초과 또는 잔액부족)"
)

# From the gateways' official tables, with their codes; NICE's behind its general 3095. Not all are read as they
# are meant: Toss Payments names limit and balance in one breath, and Inicis' "unusable card" gives no reason.
WORDINGS: Mapping[str, Mapping[Saying, tuple[str, ...]]] = MappingProxyType(
    {
        "kcp": {
            Saying.NO_MONEY: ("[CC10]통장 잔액부족",),
            Saying.LIMIT_DAY: ("[CC08]1일 한도초과",),
            Saying.LIMIT_MONTH: ("[CC09]월 한도초과",),
            Saying.LIMIT: ("[CC61]거래금액 한도초과",),
            Saying.VAGUE: ("[CC03]카드사 거절(기타사유)",),
            Saying.OUTDATED: ("[CC54]카드유효기간만료 또는 불일치", "[CC63]비밀번호 오류"),
            Saying.LOST: ("[CC43]도난카드", "[CC04]분실 혹은 거래불가 카드"),
            Saying.MAINTENANCE: ("[CCC0]카드사 시스템 점검 중입니다.(점검시간 이후에 다시 시도해주세요.)",),
            Saying.LINE_FAULT: ("[CC72]카드사 TIMEOUT", "[7R01]결제기관 통신"),
        },
        "html5_inicis": {
            Saying.NO_MONEY: ("[120054]잔액부족",),
            Saying.LIMIT_DAY: ("[120002]1일 사용금액초과",),
            Saying.LIMIT_MONTH: ("[120016]월 사용한도 초과",),
            Saying.LIMIT: ("[12FN]복수은행 통합한도 초과", "[068326]사용한도초과"),
            Saying.VAGUE: ("[067213]승인불가", "[120027]거래 불가 카드"),
            Saying.OUTDATED: ("[120004]유효기간 만료(기간오류)", "[120019]비밀번호 상이"),
            Saying.LOST: ("[120026]도난, 분실카드",),
            Saying.MAINTENANCE: ("[1200B9]해당 카드사 시스템 점검중",),
            Saying.LINE_FAULT: ("[120010]카드사 거래 TIMEOUT",),
        },
        "tosspayments": {
            Saying.NO_MONEY: (
                "[REJECT_ACCOUNT_PAYMENT]잔액부족으로 결제에 실패했습니다.",
                _LIMIT_OR_BALANCE,
            ),
            Saying.LIMIT_DAY: ("[515]지급한도 초과(1일 한도초과)",),
            Saying.LIMIT_MONTH: ("[B5]월사용한도액초과",),
            Saying.LIMIT: (_LIMIT_OR_BALANCE,),
            Saying.VAGUE: ("[3000]카드사 거절",),
            Saying.OUTDATED: ("[A1]유효기간만료(Expired card)", "[C1]비밀번호오류"),
            Saying.LOST: ("[9141]분실도난카드등재",),
            Saying.MAINTENANCE: ("[299]해당 카드사 사스템 점검중",),
            Saying.LINE_FAULT: ("[3001]밴사 통신 타임아웃입니다.",),
        },
        "nice": {
            Saying.NO_MONEY: ("[2113]잔액부족",),
            Saying.LIMIT_DAY: ("[3095]1일 한도초과",),
            Saying.LIMIT_MONTH: ("[2116]개인 월 한도금액 초과",),
            Saying.LIMIT: ("[3095]한도초과",),
            Saying.VAGUE: ("[3095]카드사 실패 응답",),
            Saying.OUTDATED: ("[3021]유효기간 오류",),
            Saying.LOST: ("[3095]분실카드",),
            Saying.MAINTENANCE: ("[3095]카드사 시스템 점검중",),
            Saying.LINE_FAULT: ("[3095]카드사 통신 장애",),
        },
    }
)
