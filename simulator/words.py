"""The decline texts of each gateway, with its code in brackets first, from its published tables."""

from enum import StrEnum


class Scenario(StrEnum):
    """The behaviour of a card; the position in this list is the number of the scenario in a card number."""

    APPROVE = "approve"
    NO_MONEY = "no_money"
    DAILY_LIMIT = "daily_limit"
    MONTHLY_LIMIT = "monthly_limit"
    LOST = "lost"
    STOLEN = "stolen"
    EXPIRED = "expired"
    PASSWORD = "password"  # noqa: S105 # a scenario's name
    SUSPENDED = "suspended"
    DO_NOT_HONOR = "do_not_honor"
    MAINTENANCE = "maintenance"
    LINE_FAULT = "line_fault"  # declined with a text that leaves the outcome open; k chooses the text
    APPROVE_ON_TRY = "approve_on_try"  # declines until the k-th try
    APPROVE_TIMES = "approve_times"  # approves k times, then declines as expired
    PAYDAY = "payday"  # no money until day k of each month, then money for five days
    REFUSE_ISSUE = "refuse_issue"  # no billing key is issued for it
    LINE_FAULT_PAID = "line_fault_paid"  # as LINE_FAULT, but paid k seconds later


SCENARIOS = tuple(Scenario)
PROVIDERS = ("kcp", "nice", "html5_inicis", "tosspayments", "kicc", "danal_tpay", "kakaopay")

# Further gateways that a `pg` parameter may name; they use the texts of `kcp`.
MORE_PROVIDERS = (
    "kcp_billing", "nice_v2", "inicis", "daou", "ksnet", "welcome", "settle", "paymentwall", "smartro_v2", "payco",
    "naverpay", "tosspay_v2", "danal", "mobilians", "chai", "jtnet",
)  # fmt: skip

# KCP's codes that leave the outcome open; the k of a card is the index in this list.
LINE_FAULTS = (
    "[CC72]카드사 TIMEOUT",
    "[CC98]카드사 시스템 장애",
    "[CC99]KCP 시스템 장애",
    "[3008]데이터 수신 시간 초과입니다.",
    "[3009]데이타 수신에 예외가 발생하였습니다.",
    "[7512]GW 처리 TIMEOUT",
    "[7R01]결제기관 통신",
    "[8041]시스템 타임아웃(잠시후 재시도바람) | PG 엔진 타임아웃",
    "[8042]시스템 타임아웃(잠시후 재시도바람) | 컨넥터 엔진 타임아웃(데이터 수신전 타임아웃)",
    "[8043]시스템 타임아웃(잠시후 재시도바람) | 컨넥터 엔진 타임아웃(서버 송신전 타임아웃)",
    "[8044]시스템 타임아웃(잠시후 재시도바람) | 컨넥터 엔진 타임아웃(서버 수신전 타임아웃)",
)

# For scenarios without an own text, the text of `kcp` is used.
WORDS: dict[str, dict[Scenario, str]] = {
    "kcp": {
        Scenario.NO_MONEY: "[CC10]통장 잔액부족",
        Scenario.DAILY_LIMIT: "[CC08]1일 한도초과",
        Scenario.MONTHLY_LIMIT: "[CC09]월 한도초과",
        Scenario.LOST: "[CC04]분실 혹은 거래불가 카드",
        Scenario.STOLEN: "[CC43]도난카드",
        Scenario.EXPIRED: "[CC54]카드유효기간만료 또는 불일치",
        Scenario.PASSWORD: "[CC63]비밀번호 오류",
        Scenario.SUSPENDED: "[CC45]정지카드",
        Scenario.DO_NOT_HONOR: "[CC03]카드사 거절(기타사유)",
        Scenario.MAINTENANCE: "[CCC0]카드사 시스템 점검 중입니다.(점검시간 이후에 다시 시도해주세요.)",
    },
    "nice": {
        Scenario.NO_MONEY: "[2113]잔액부족",
        Scenario.MONTHLY_LIMIT: "[2116]개인 월 한도금액 초과",
        Scenario.EXPIRED: "[3021]유효기간 오류",
        Scenario.DO_NOT_HONOR: "[3095]카드사 실패 응답",
        Scenario.SUSPENDED: "[F118]해당카드는 사용이 불가능 합니다 타사카드를 이용해주세요",
    },
    "html5_inicis": {
        Scenario.NO_MONEY: "[120054]잔액부족",
        Scenario.DAILY_LIMIT: "[120002]1일 사용금액초과",
        Scenario.MONTHLY_LIMIT: "[120016]월 사용한도 초과",
        Scenario.LOST: "[120026]도난, 분실카드",
        Scenario.STOLEN: "[120026]도난, 분실카드",
        Scenario.EXPIRED: "[120004]유효기간 만료(기간오류)",
        Scenario.PASSWORD: "[120019]비밀번호 상이",
        Scenario.SUSPENDED: "[120001]거래제한(정지)카드",
        Scenario.DO_NOT_HONOR: "[120027]거래 불가 카드",
        Scenario.MAINTENANCE: "[1200B9]해당 카드사 시스템 점검중",
        Scenario.LINE_FAULT: "[120010]카드사 거래 TIMEOUT",
    },
    "tosspayments": {
        Scenario.NO_MONEY: "[REJECT_ACCOUNT_PAYMENT]잔액부족으로 결제에 실패했습니다.",
        Scenario.DAILY_LIMIT: "[515]지급한도 초과(1일 한도초과)",
        Scenario.MONTHLY_LIMIT: "[B5]월사용한도액초과",
        Scenario.LOST: "[9141]분실도난카드등재",
        Scenario.STOLEN: "[26]도난/분실,위,변조카드",
        Scenario.EXPIRED: "[A1]유효기간만료(Expired card)",
        Scenario.PASSWORD: "[C1]비밀번호오류",
        Scenario.SUSPENDED: "[A9]거래정지카드",
        Scenario.DO_NOT_HONOR: "[3000]카드사 거절",
        Scenario.MAINTENANCE: "[299]해당 카드사 사스템 점검중",
        Scenario.LINE_FAULT: "[3001]밴사 통신 타임아웃입니다.",
    },
    "kicc": {
        Scenario.NO_MONEY: "[8035]잔액부족",
        Scenario.MONTHLY_LIMIT: "[8521]한도초과",
        Scenario.LOST: "[8350]분실카드",
        Scenario.STOLEN: "[8350]도난카드",
        Scenario.EXPIRED: "[8314]유효기간 만료",
        Scenario.PASSWORD: "[8311]비밀번호 오류",
        Scenario.DO_NOT_HONOR: "[8373]카드사 문의",
    },
    "danal_tpay": {
        Scenario.NO_MONEY: "[8520]잔액부족",
        Scenario.DAILY_LIMIT: "[8381]1회사용한도액초과",
        Scenario.MONTHLY_LIMIT: "[8380]월사용한도액초과",
        Scenario.LOST: "[8424]분실카드(Pick Up Card)",
        Scenario.STOLEN: "[8441]도난카드(Pick Up Stolen Card)",
        Scenario.EXPIRED: "[8106]카드유효기간 만료",
        Scenario.PASSWORD: "[8122]비밀번호가 틀립니다.",
        Scenario.SUSPENDED: "[8443]정지카드",
        Scenario.DO_NOT_HONOR: "[8185]카드사 기타오류입니다. 카드사로 문의 바랍니다.",
        Scenario.MAINTENANCE: "[8245]해당 카드사 사스템 점검중",
    },
    "kakaopay": {
        Scenario.NO_MONEY: "[NOT_ENOUGH_BALANCE]잔액 부족",
        Scenario.DAILY_LIMIT: "[0160]1일한도초과",
        Scenario.MONTHLY_LIMIT: "[3537]한도초과",
        Scenario.LOST: "[3533]분실된카드",
        Scenario.STOLEN: "[0026]도난/분실,위,변조카드",
        Scenario.EXPIRED: "[0004]카드유효기간만료",
        Scenario.PASSWORD: "[0019]비밀번호상이",
        Scenario.SUSPENDED: "[2028]정지된 카드입니다.",
        Scenario.DO_NOT_HONOR: "[0126]거래거절",
        Scenario.MAINTENANCE: "[0299]해당카드사시스템점검중",
    },
}  # fmt: skip


def words_of(provider: str, scenario: Scenario, k: int = 0) -> str:
    """The decline text of a gateway."""
    own = WORDS.get(provider, {})
    if scenario in (Scenario.LINE_FAULT, Scenario.LINE_FAULT_PAID):
        return own.get(Scenario.LINE_FAULT) or LINE_FAULTS[k % len(LINE_FAULTS)]
    return own.get(scenario) or WORDS["kcp"][scenario]
