"""What the words of a decline mean: the order of the rules, codes in their PG's context, and a labelled sample."""

import hashlib
import re
import unicodedata
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schedules.dunning.declines import DeclineClass, Placed, bound, classify, read_rules, unclear
from schedules.errors import BadRules
from tests.rules.declines_sample import by_draw, confusion, sample, share, sources
from worker.rules import rulebook

ROOT = Path(__file__).resolve().parents[2]
OFFICIAL = ROOT.parent / "shared/reference/pg-codes"
# Which PG's rules read each official table.
TABLES = {
    "danal-card": "danal_tpay", "inicis-card": "html5_inicis", "kakaopay-card": "kakaopay",
    "kakaopay-money": "kakaopay", "kcp": "kcp", "tosspayments": "tosspayments",
}  # fmt: skip
ENOUGH = 0.95
# The rules of a version never change: whoever changes a rule raises the version of its file, and writes both here.
VERSION, DIGEST = 3, "702b8ee926a67a1d"


def official() -> Iterator[tuple[str, str, str]]:
    """The PG, code and text of each row of the official tables."""
    for name, pg in TABLES.items():
        for line in (OFFICIAL / f"{name}.tsv").read_text("utf-8").splitlines()[1:]:
            code, _, text = line.partition("\t")
            yield pg, code, text


def placed(text: str | None, pg: str | None = None) -> str:
    return str(classify(text, pg, rulebook()).decline_class)


EXAMPLES = [
    ("kcp", "[CC10]통장 잔액부족", "money_short"),
    ("kcp", "[CC88]카드사포인트 잔액부족", "money_short"),
    ("kcp", "[8186]거래불가카드(일최대승인한도초과)", "limit"),
    ("kcp", "[8188]거래불가카드(월최대승인한도초과)", "limit"),
    ("kcp", "[CC61]거래금액 한도초과", "limit"),
    ("nice", "결제승인에 실패하였습니다. [2116]개인 월 한도금액 초과", "limit"),
    ("nice", "카드정보 인증에 실패하였습니다. [F113]거래거절 카드번호틀림", "customer_must_act"),
    ("html5_inicis", "[500626|기 취소 거래]", "not_a_decline"),
    ("html5_inicis", "[068350]도난/분실 도난,분실카드", "never_again"),
    ("html5_inicis", "[068373]카드사전화요망", "unknown_word"),
    ("kicc", "[8350]", "never_again"),
    ("kicc", "[8311]", "customer_must_act"),
    ("kicc", "[8035]", "money_short"),
    ("kicc", "8521", "limit"),
    ("kicc", "[8373]", "unknown_word"),
    ("eximbay", "[STOLEN_OR_LOST_CARD]", "never_again"),
    ("eximbay", "INSUFFICIENT_FUNDS", "money_short"),
    ("tosspayments", "[REJECT_CARD_PAYMENT]한도초과 혹은 잔액부족으로 결제에 실패했습니다.", "money_short"),
    ("tosspayments", "[INVALID_STOPPED_CARD]정지된 카드 입니다.", "never_again"),
    ("kakaopay", "LACK_BALANCE", "money_short"),
    ("danal_tpay", "[8106]카드유효기간 만료", "customer_must_act"),
    (None, "Do not honor", "unknown_word"),
    (None, "Not sufficient funds", "money_short"),
    (None, "카드사 점검 중입니다. 잠시 후 다시 시도해 주세요.", "later"),
    ("kcp", "[CC72]카드사 TIMEOUT", "unknown_outcome"),
    ("danal", "[8201]카드사 통신장애(잠시 후 다시 결제)", "unknown_outcome"),
    ("kcp", "[8121]신용카드 미등록가맹점", "setup_fault"),
    (None, "등록되지 않은 구매자입니다.", "customer_must_act"),
]


@pytest.mark.parametrize(("pg", "text", "expected"), EXAMPLES)
def test_words_are_placed_as_a_payments_person_would(pg: str | None, text: str, expected: str) -> None:
    assert placed(text, pg) == expected


# Each of these names something that another class names as well: only the order of the rules keeps them apart.
IN_ORDER = [
    ("비밀번호 오류 횟수 초과", "customer_must_act"),
    ("인증오류 3회초과(당일거래 불가)", "customer_must_act"),
    ("가맹점 한도초과", "setup_fault"),
    ("할부 거래 한도 초과", "setup_fault"),
    ("할부불가 카드", "customer_must_act"),
    ("할부불가 가맹점", "setup_fault"),
    ("업종정보오류", "setup_fault"),
    ("요청가맹점인증특약미존재", "setup_fault"),
    ("가맹점 특약 미체결", "setup_fault"),
    ("가맹점특약이 체결되지 않았습니다", "setup_fault"),
    ("상점 카드사 특약 미체결", "setup_fault"),
    ("쇼핑몰 특약 미가입", "setup_fault"),
    ("정기결제 특약이 체결되지 않았습니다", "setup_fault"),
    ("빌링 특약 미체결", "setup_fault"),
    ("특약 미체결 가맹점", "setup_fault"),
    ("특약 미체결", "customer_must_act"),
    ("특약 미체결 카드", "customer_must_act"),
    ("카드사 특약이 없습니다", "customer_must_act"),
    ("1회 한도초과", "limit"),
    ("월 이용한도를 초과하였습니다", "limit"),
    ("거래정지 가맹점", "setup_fault"),
    ("거래정지 카드", "never_again"),
    ("일시사용정지", "customer_must_act"),
    ("도난, 분실 카드", "never_again"),
    ("ISP 비밀번호 분실/변경", "customer_must_act"),
    ("포맷에러(지불|신용카드|유효기간)", "setup_fault"),
    ("한도 초과로 승인이 취소되었습니다", "limit"),
    ("통장 잔액이 부족합니다. 입금 후 이용해 주세요", "money_short"),
    ("본인확인 후 사용가능 전화요망", "customer_must_act"),
    ("쇼핑몰 사업자번호 오류", "setup_fault"),
    ("사업자번호 오류(인증)", "customer_must_act"),
    ("부분취소 가능금액 초과", "not_a_decline"),
    ("가상계좌 네트워크 오류", "not_a_decline"),
    ("상담원승인거절", "unknown_word"),
    ("Transaction not identified", "unknown_word"),
    ("funds transfer refused", "unknown_word"),
]


@pytest.mark.parametrize(("text", "expected"), IN_ORDER)
def test_the_order_of_the_rules_keeps_apart_what_shares_its_words(text: str, expected: str) -> None:
    assert placed(text) == expected


@pytest.mark.parametrize(
    "text", [None, "", "   ", "[]", "[9X9X]", "뭐라고요", "xyzzy", "0", "🂡", "[ZZ99]알 수 없음"]
)
def test_what_no_rule_knows_is_an_unknown_word_and_never_a_class_that_stops_a_card(text: str | None) -> None:
    assert classify(text, "kcp", rulebook()) == Placed(DeclineClass.UNKNOWN_WORD, "unplaced", VERSION)


def test_a_code_counts_in_its_own_pg_s_context_only() -> None:
    assert placed("[3008]", "kcp") == "unknown_outcome"
    assert placed("[3008]유효기간미입력", "kakaopay") == "customer_must_act"
    assert placed("[8350]", "kicc") == "never_again"
    assert placed("[8350]", "nice") == "unknown_word"


@pytest.mark.parametrize("name", ["kcp", "KCP", "kcp_billing", "kcp_quick", "kcp.T0000", " kcp "])
def test_a_pg_is_known_by_each_of_the_names_that_portone_has_for_it(name: str) -> None:
    assert classify("[CC41]", name, rulebook()).rule == "kcp/hours"


def test_without_a_pg_kcp_s_codes_for_an_open_outcome_count_and_its_others_do_not() -> None:
    assert placed("[7512]", None) == "unknown_outcome"
    assert placed("[CC41]", None) == "unknown_word"


def test_the_answer_names_rule_and_version() -> None:
    answer = classify("[CC10]통장 잔액부족", "kcp", rulebook())
    assert (answer.rule, answer.version, answer.stamp) == (
        "kcp/money-short",
        VERSION,
        f"kcp/money-short@{VERSION}",
    )


# None of these is an answer of the card: what became of the money is not said, or the text hides a charge.
INDEFINITE_TEXTS = [
    "Connection reset",
    "Error: read ECONNRESET",
    "Connection reset by peer",
    "socket hang up",
    "Remote end closed connection without response",
    "connection was closed unexpectedly",
    "502 Bad Gateway",
    "upstream request timeout",
    "ETIMEDOUT",
    "이미 처리중인 거래입니다",
    "이미 처리 중인 요청입니다.",
    "현재 처리중입니다. 잠시 후 확인하세요",
    "결제가 진행 중입니다",
    "중복 요청입니다",
    "중복된 요청입니다",
    "동일한 요청이 처리되고 있습니다",
    "Payment is already in progress",
    "Duplicate request",
    "already been processed",
    "Payment pending",
    "응답을 받지 못했습니다",
    "카드사로부터 응답이 없습니다",
    "카드사 응답 없음",
    "승인 결과를 확인할 수 없습니다",
    "결제 결과를 알 수 없습니다",
    "취소확인요망",
    "취소되지않은 거래",
    "수동취소요망",
    "망취소 실패",
    "승인취소확인요망",
    "정상처리",
    "거래성공",
    "Approved",
    "연결 실패",
    "접속오류",
    "서버에 연결할 수 없습니다.",
    "ECONNREFUSED",
    "알 수 없는 오류가 발생했습니다",
    "결제 처리 중 에러가 발생했습니다",
    "미지정 응답코드 수신",
    "응답코드 누락",
]


@pytest.mark.parametrize("pg", [None, "kcp", "nice", "html5_inicis", "tosspayments", "danal_tpay", "unheard-of"])
@pytest.mark.parametrize("text", INDEFINITE_TEXTS)
def test_a_text_that_may_hide_a_charge_is_not_definite(text: str, pg: str | None) -> None:
    assert not classify(text, pg, rulebook()).definite
    assert not classify(f"결제승인에 실패하였습니다. [ZZ99]{text}", pg, rulebook()).definite


# What the official tables say of time-outs, lines, doubled and unfinished requests, whatever the class.
OPEN_WORDS = re.compile(
    "timeout|timed ?out|타임아웃|무응답|응답 ?지연|통신 ?(장애|오류|에러|실패)|시스템 ?(오류|장애|에러)"
    "|중복 ?거래|중복 ?결제|이미 ?(승인|결제)된|기 ?승인 ?거래(?! ?번호)|망취소|취소되지|취소 ?확인|연결 ?실패"
    "|접속 ?오류|system ?error|duplicate"
)


def test_no_open_text_of_the_sample_is_definite() -> None:
    found = [row for row in sample() if OPEN_WORDS.search(row.text.casefold())]
    assert len(found) > 20
    assert not [row for row in found if classify(f"[{row.code}]{row.text}", row.pg, rulebook()).definite]


@pytest.mark.skipif(not OFFICIAL.exists(), reason=f"the official tables are not at hand: {OFFICIAL}")
def test_no_open_text_of_the_official_tables_is_definite() -> None:
    found = [(pg, code, text) for pg, code, text in official() if OPEN_WORDS.search(text.casefold())]
    assert len(found) > 200
    assert not [row for row in found if classify(f"[{row[1]}]{row[2]}", row[0], rulebook()).definite]


@pytest.mark.parametrize(
    "text",
    [
        "거래불량",
        "거래구분 실패",
        "회원 구분 실패",
        "부분 실패",
        "통신망 실패",
        "결제망 실패",
        "Threshold card amount reached",
        "Unable to capture card payment",
        "fraud check unavailable",
        "시장 물품 판매",
    ],
)
def test_a_text_that_names_no_lost_or_closed_card_never_stops_it(text: str) -> None:
    assert placed(text) != "never_again"


# Whoever pays with such a card is declined whatever the shop does, and the shop's other customers pay.
FAULTS_OF_THE_CARD = [
    "거래제한업종",
    "승인거래제한업종",
    "승인거래 제한 업종",
    "해당업종사용불가",
    "사용제한업종 카드",
    "클린카드 사용불가 업종",
    "클린카드승인안됨",
    "복지카드 사용 제한",
    "복지카드사용불가매장",
    "할부불가카드",
    "할부 불가 카드",
    "체크카드할부불가",
    "법인카드 할부불가",
    "할부불가 카드 또는 가맹점",
    "특약 미체결",
    "카드사 특약이 체결되지 않았습니다",
    "특약미체결 카드",
]


@pytest.mark.parametrize("pg", [None, "kcp", "nice", "html5_inicis", "tosspayments", "danal_tpay", "kakaopay"])
@pytest.mark.parametrize("text", FAULTS_OF_THE_CARD)
def test_a_card_that_is_restricted_is_no_fault_of_our_set_up(text: str, pg: str | None) -> None:
    """Guard: five customers with such cards do not stop an account's charging."""
    assert placed(f"결제승인에 실패하였습니다. {text}", pg) == "customer_must_act"


@pytest.mark.skipif(not OFFICIAL.exists(), reason=f"the official tables are not at hand: {OFFICIAL}")
def test_the_official_tables_have_no_restricted_card_among_the_faults_of_our_set_up() -> None:
    """The official wordings for a card that only another card can replace, with their codes."""
    restricted = re.compile(
        r"제한 ?업종|업종사용불가|(?<!무이자)할부 ?불가 ?카드|카드\)? ?할부(거래)? ?불가"
        r"|법인할부불가|클린카드|복지카드"
    )
    found = [(pg, code, text) for pg, code, text in official() if restricted.search(text)]
    assert len(found) > 30
    assert {placed(f"[{code}]{text}", pg) for pg, code, text in found} == {"customer_must_act"}


def test_an_explicit_unknown_word_is_placed_and_an_unknown_text_is_not() -> None:
    assert classify("Do not honor", None, rulebook()).is_placed
    assert not classify("xyzzy", None, rulebook()).is_placed


LABELLED = [row for row in sample() if row.draw == "first"]


@given(st.sampled_from([row.text for row in LABELLED]), st.booleans())
def test_blanks_case_and_the_form_of_hangul_change_nothing(text: str, blanks: bool) -> None:
    """Blanks are put between letters only: a number's figures stand together."""
    spread = " ".join(text) if blanks and not any(sign.isdigit() for sign in text) else text
    assert placed(unicodedata.normalize("NFD", spread.upper()), "paypal") == placed(text, "paypal")


@given(st.text(max_size=60), st.sampled_from([None, "kcp", "html5_inicis", "kakaopay", "eximbay", "unheard-of"]))
def test_any_text_gets_a_class_and_an_unknown_outcome_is_always_one_that_is_asked_about(
    text: str, pg: str | None
) -> None:
    answer = classify(text, pg, rulebook())
    if answer.decline_class is DeclineClass.UNKNOWN_OUTCOME:
        assert list(unclear(text, pg, rulebook()))


def test_every_unknown_outcome_of_the_sample_is_asked_about() -> None:
    for row in sample():
        if row.placed.decline_class is DeclineClass.UNKNOWN_OUTCOME:
            assert list(unclear(f"[{row.code}]{row.text}", row.pg, rulebook())), row


def test_the_rules_agree_with_the_labelled_sample() -> None:
    assert share(sample()) > ENOUGH
    for pg in {row.pg for row in sample()}:
        assert share([row for row in sample() if row.pg == pg]) > ENOUGH, pg


def test_the_third_draw_which_nothing_was_mended_by_agrees_as_well() -> None:
    assert share([row for row in sample() if row.draw == "third"]) > ENOUGH


def test_both_passes_of_the_first_draw_are_kept_and_one_of_them_is_the_label() -> None:
    assert len(LABELLED) == 400
    assert all(row.label in (row.first_pass, row.second_pass) for row in LABELLED)
    assert sum(row.first_pass == row.second_pass for row in LABELLED) == 392


def test_the_document_shows_the_tables_as_they_are() -> None:
    document = (ROOT / "docs/reference/declines.md").read_text("utf-8")
    for table in (by_draw(sample()), confusion(sample()), sources()):
        assert table in document, "print them with: python -m tests.rules.declines_sample"


@pytest.mark.skipif(not OFFICIAL.exists(), reason=f"the official tables are not at hand: {OFFICIAL}")
def test_all_official_card_codes_are_placed() -> None:
    total: Counter[str] = Counter()
    known: Counter[str] = Counter()
    for pg, code, text in official():
        total[pg] += 1
        known[pg] += classify(f"[{code}]{text}", pg, rulebook()).is_placed
    assert all(known[pg] / total[pg] > ENOUGH for pg in total), known
    assert known.total() / total.total() > ENOUGH


def test_a_version_s_rules_never_change() -> None:
    folder = ROOT / "worker/rules"
    parts = [path.name.encode() + path.read_bytes() for path in sorted(folder.glob("*.toml"))]
    found = (rulebook().version, hashlib.sha256(b"\n".join(parts)).hexdigest()[:16])
    assert found == (VERSION, DIGEST), "the rules changed: raise the file's version, and write both here"


def test_there_is_a_file_for_each_pg_that_the_shops_here_use() -> None:
    named = {file.name for file in rulebook().others}
    assert named >= {"kcp", "nice", "inicis", "tosspayments", "kakaopay", "danal", "kicc", "eximbay"}
    for name in (
        "kcp",
        "nice",
        "html5_inicis",
        "inicis",
        "tosspayments",
        "uplus",
        "kakaopay",
        "danal_tpay",
        "kicc",
    ):
        assert rulebook().of(name) is not None, name


RULE = '[[rule]]\nid = "a-rule"\nclass = "later"\nsource = "guess"\nwords = ["x"]\n'
BAD = [
    ("version = 1\n[[rule", "is not TOML"),
    (RULE, "version None is not a whole number"),
    ("version = true\n" + RULE, "version True is not a whole number"),
    ("version = 0\n" + RULE, "version 0"),
    ("version = 1\n", "it has no [[rule]]"),
    ("version = 1\ncolour = 1\n" + RULE, "unknown keys colour"),
    ("version = 1\npg_providers = 'kcp'\n" + RULE, "pg_providers is not a list of texts"),
    ("version = 1\n" + RULE.replace('"a-rule"', '"A rule"'), "rule id 'A rule'"),
    (
        "version = 1\n" + RULE.replace('"later"', '"soon"'),
        "rule 'a-rule': class 'soon' is not known; there are: never",
    ),
    ("version = 1\n" + RULE.replace('"guess"', '"hearsay"'), "rule 'a-rule': source 'hearsay' is not known"),
    ("version = 1\n" + RULE.replace('["x"]', "[]"), "rule 'a-rule': it names no codes, words or patterns"),
    ("version = 1\n" + RULE.replace('["x"]', '["x", "x"]'), "rule 'a-rule': words names 'x' twice"),
    ("version = 1\n" + RULE.replace('["x"]', '["-_-"]'), "rule 'a-rule': word '-_-' is empty after normalization"),
    ("version = 1\n" + RULE.replace("words", "wordz"), "rule 'a-rule': unknown keys wordz"),
    ("version = 1\n" + RULE + 'patterns = ["("]\n', "rule 'a-rule': pattern '(' cannot be read"),
    ("version = 1\n" + RULE + 'patterns = ["x*"]\n', "rule 'a-rule': pattern 'x*' matches every text"),
    ("version = 1\n" + RULE + 'patterns = ["a b"]\n', "rule 'a-rule': pattern 'a b' has blanks or capitals"),
    ("version = 1\n" + RULE + RULE, "rule 'a-rule': its id is used twice"),
    (
        "version = 1\n" + RULE + 'codes = ["A1"]\n' + RULE.replace("a-rule", "b-rule") + 'codes = ["a1"]\n',
        "rule 'b-rule': code A1 is in rule bad/a-rule already",
    ),
]


@pytest.mark.parametrize(("text", "reason"), BAD, ids=[reason for _, reason in BAD])
def test_a_bad_file_is_refused_with_its_name_the_rule_and_the_reason(text: str, reason: str) -> None:
    with pytest.raises(BadRules) as refusal:
        read_rules("bad", text)
    assert "rules file bad" in str(refusal.value)
    assert reason in str(refusal.value)


def test_two_files_for_one_pg_and_a_book_without_general_words_are_refused() -> None:
    one, two = (read_rules(name, f"version = 1\npg_providers = ['kcp']\n{RULE}") for name in ("one", "two"))
    with pytest.raises(BadRules, match="rules file two: kcp has the file one already"):
        bound([one, two])
    with pytest.raises(BadRules, match="no file 'general'"):
        bound([one])


def test_the_book_has_the_version_of_its_newest_file() -> None:
    files = [read_rules("general", f"version = 3\n{RULE}"), read_rules("kcp", f"version = 7\n{RULE}")]
    assert bound(files).version == 7
