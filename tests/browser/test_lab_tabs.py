"""The third and fourth tab against a scripted laboratory: what is asked for, what is shown."""

from __future__ import annotations

import pytest
from playwright.sync_api import Page, expect

from browser_profiles import DESKTOP, PHONE
from browser_support import OpenPage, hurry, needs_chromium
from fake_lab import DATASETS_DIR, FakeLab
from single_support import held, wait_for

pytestmark = needs_chromium


def open_tab(open_page: OpenPage, tab: str, lab: FakeLab, **options: object) -> Page:
    page = open_page(**options)
    hurry(page)
    lab.attach(page)
    page.locator(f"#tab-{tab}").click()
    return page


@pytest.mark.parametrize("size", [None, PHONE])
def test_a_run_from_data_set_to_model(open_page: OpenPage, size: dict[str, int] | None) -> None:
    lab = FakeLab()
    lab.patience = 3
    page = open_tab(open_page, "tune", lab, **({"size": size} if size else {}))
    report = page.locator(".report")
    expect(report).to_contain_text("240 pictures")
    report.locator("summary").click()
    expect(report).to_contain_text("train_gts/0031.txt:1")
    page.get_by_role("button", name="Start training").click()
    page.locator("#panel-tune[data-run=finished]").wait_for()
    (order,) = lab.asked_for("POST", "runs")
    assert order == {
        "dataset": "receipts-2026",
        "batch_size": 8,
        "epochs": 5,
        "lr": 0.007,
        "base_model": "resnet18-db",
        "crop_size": 640,
        "crops_per_picture": 4,
    }, "the original's defaults"
    charts = page.locator("so-chart")
    expect(charts.nth(0)).to_contain_text("at step 600")
    expect(charts.nth(1)).to_contain_text("0.927 at step 600")
    expect(page.locator(".log")).to_contain_text("step 600/600")
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    page.get_by_role("button", name="Use this model").click()
    expect(page.locator(".run .note")).to_contain_text("The service reads with lab-run-0 now")
    assert lab.asked_for("POST", "runs/run-0/use") == [{}]
    page.get_by_role("button", name="Back to resnet18-db").click()
    expect(page.locator(".run .note")).to_contain_text("The service reads with resnet18-db now")
    assert lab.asked_for("POST", "runs/run-0/back") == [{}]
    expect(page.get_by_role("button", name="Back to")).to_be_hidden()
    page.locator(".run").get_by_role("button", name="Export").click()
    expect(page.locator("#export-model")).to_have_value("run-0")


def test_the_lines_of_a_log_stay_while_it_grows(open_page: OpenPage) -> None:
    lab = FakeLab()
    lab.patience = 50
    lab.pause_after = 3
    page = open_tab(open_page, "tune", lab)
    page.get_by_role("button", name="Start training").click()
    lines = page.locator(".log > span")
    expect(lines).to_have_count(3)
    first, second = lines.all_text_contents()[:2]
    lines.nth(1).evaluate("(line) => getSelection().selectAllChildren(line)")
    lab.pause_after = 4
    expect(lines).to_have_count(4)
    assert lines.first.text_content() == first
    # Only the last ones of a long log are told.
    (run,) = lab.runs
    run["log"] = run["log"][1:]
    expect(lines.first).to_have_text(second)
    assert page.evaluate("getSelection().toString()").strip() == second.strip()
    run["log"] = ["another one"]
    expect(lines.first).to_have_text("another one")
    page.get_by_role("button", name="Cancel").click()
    expect(page.locator(".run .badge.cancelled")).to_be_visible()


def test_values_are_kept_within_their_ranges(open_page: OpenPage) -> None:
    lab = FakeLab()
    page = open_tab(open_page, "tune", lab)
    page.get_by_label("Data set").select_option("street-signs")
    page.get_by_label("Batch size").fill("500")
    page.get_by_label("Epochs").fill("0")
    page.get_by_label("Learning rate").fill("7")
    expect(page.locator(".report")).to_contain_text("240 pictures")
    page.get_by_role("button", name="Start training").click()
    page.locator(".run").wait_for()
    (order,) = lab.asked_for("POST", "runs")
    assert (order["dataset"], order["batch_size"], order["epochs"], order["lr"]) == ("street-signs", 32, 1, 0.1)
    expect(page.locator(".run")).to_contain_text("1 epoch,")


def test_without_a_data_set_it_says_where_one_belongs(open_page: OpenPage) -> None:
    lab = FakeLab()
    lab.datasets = []
    report = open_tab(open_page, "tune", lab).locator(".report")
    expect(report).to_contain_text("lab.datasets_dir")
    expect(report).to_contain_text(DATASETS_DIR)
    expect(report).to_contain_text("train_gts/1.txt")
    expect(report).to_contain_text(f"steadyocr synth --out {DATASETS_DIR}/synthetic")


def test_a_run_that_did_not_help_says_so_before_it_is_used(open_page: OpenPage) -> None:
    lab = FakeLab()
    lab.hmean_before = 0.97
    page = open_tab(open_page, "tune", lab)
    page.get_by_role("button", name="Start training").click()
    expect(page.locator(".run .note.warn")).to_contain_text("0.970 before and 0.927 at best after")
    use = page.locator(".run").get_by_role("button", name="Use this model")
    use.click()
    page.get_by_role("dialog").get_by_role("button", name="Cancel").click()
    expect(page.get_by_role("dialog")).to_have_count(0)
    assert lab.asked_for("POST", "runs/run-0/use") == []
    use.click()
    page.get_by_role("dialog").get_by_role("button", name="Use this model").click()
    expect(page.locator(".run .note").last).to_contain_text("The service reads with lab-run-0 now")


def test_a_run_is_cancelled_and_resumed(open_page: OpenPage) -> None:
    lab = FakeLab()
    lab.patience = 10_000
    page = open_tab(open_page, "tune", lab)
    page.get_by_role("button", name="Start training").click()
    cancel = page.locator(".run").get_by_role("button", name="Cancel")
    expect(cancel).to_be_visible()
    # A fault of the server's is none of the run's.
    fault = {"code": "internal", "detail": "oh"}
    page.route("**/v1/lab/runs/run-0", lambda route: route.fulfill(status=500, json=fault))
    expect(page.locator(".run").get_by_role("alert")).to_contain_text("The service has a fault")
    page.unroute("**/v1/lab/runs/run-0")
    expect(page.locator(".run").get_by_role("alert")).to_have_count(0)
    # Whoever looks at something else meanwhile is not fetched back, nor is the run looked at for nobody.
    order = held(page, "**/v1/lab/runs", when=lambda request: request.method == "POST")
    page.get_by_role("button", name="Start training").click()
    late = wait_for(page, order)
    page.locator("#tab-single").click()
    with page.expect_response("**/v1/lab/runs"):
        late.fallback()
    page.wait_for_timeout(100)
    expect(page.locator("#panel-single")).to_be_visible()
    page.locator("#tab-tune").click()
    # Until the list is there, the run is the one of before, and so is what is cancelled.
    expect(page.locator("#panel-tune .card[aria-current]")).to_have_attribute("href", "#tune/run-1")
    order = held(page, "**/v1/lab/runs/run-1/cancel")
    cancel.click()
    late = wait_for(page, order)
    page.locator("#tab-single").click()
    with page.expect_response("**/v1/lab/runs/run-1/cancel"):
        late.fallback()
    page.wait_for_timeout(100)
    assert lab.asked[-1][:2] == ("POST", "runs/run-1/cancel")
    page.locator("#tab-tune").click()
    expect(page.locator(".run .badge.cancelled")).to_be_visible()
    lab.patience = 1
    # The keyboard stays nearby where a button goes, and on a card that opens.
    page.get_by_role("button", name="Resume").press("Enter")
    page.locator("#panel-tune[data-run=finished]").wait_for()
    card = page.locator("#panel-tune .card")
    expect(card.first).to_be_focused()
    with page.expect_response("**/v1/lab/runs/run-0"):
        card.last.press("Enter")
    expect(card.last).to_be_focused()


def test_a_refusal_says_why(open_page: OpenPage) -> None:
    lab = FakeLab()
    lab.refusal = (503, {"code": "memory_pressure", "detail": "needs 3 GB, 1 GB is free", "request_id": "abc"})
    page = open_tab(open_page, "tune", lab)
    page.get_by_role("button", name="Start training").click()
    expect(page.get_by_role("alert")).to_contain_text("short of memory")
    expect(page.get_by_role("alert")).to_contain_text("needs 3 GB")


def test_without_the_training_packages_the_tabs_say_so(open_page: OpenPage) -> None:
    page = open_tab(open_page, "tune", FakeLab(available=False))
    expect(page.locator("#panel-tune")).to_contain_text("There is no training")
    expect(page.locator("#panel-tune form")).to_be_hidden()
    page.locator("#tab-export").click()
    expect(page.locator("#panel-export")).to_contain_text("the training extra is missing")


@pytest.mark.parametrize("size", [DESKTOP, PHONE], ids=str)
def test_an_export_in_a_fixed_size(open_page: OpenPage, size: dict[str, int]) -> None:
    lab = FakeLab()
    page = open_tab(open_page, "export", lab, size=size)
    page.get_by_role("button", name="fixed").click()
    page.get_by_label("Height").fill("330")
    page.get_by_label("Width").fill("640")
    form = page.locator("#panel-export form")
    expect(form).to_contain_text("330 became 352: the network needs multiples of 32")
    page.get_by_label("Width").fill("9999")
    page.get_by_label("Width").blur()
    expect(form).to_contain_text("9999 became 1536")
    expect(page.get_by_label("INT8")).to_be_hidden()
    page.locator("#panel-export button[type=submit]").click()
    card = page.locator(".export-card")
    expect(card).to_contain_text("352 × 1536")
    expect(card).to_contain_text("23 MB")
    expect(card).to_contain_text("1.2e-7")
    expect(card).to_contain_text("Same answers as the original; differences stay below the allowed 0.001")
    (order,) = lab.asked_for("POST", "exports")
    assert order == {"model": "resnet18-db", "format": "onnx", "int8": False, "height": 352, "width": 1536}
    with page.expect_download() as waiting:
        card.get_by_role("button", name="Download").click()
    assert waiting.value.url.endswith("/v1/lab/exports/export-0/file")
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")


def test_an_export_in_int8_takes_all_sizes(open_page: OpenPage) -> None:
    lab = FakeLab()
    page = open_tab(open_page, "export", lab)
    page.get_by_label("INT8").check()
    page.locator("#panel-export button[type=submit]").click()
    expect(page.locator(".export-card")).to_contain_text("ONNX · any size · INT8")
    expect(page.locator(".export-card")).to_contain_text("on purpose")
    (order,) = lab.asked_for("POST", "exports")
    assert order == {"model": "resnet18-db", "format": "onnx", "int8": True}


def test_openvino_has_no_fixed_size(open_page: OpenPage) -> None:
    lab = FakeLab()
    page = open_tab(open_page, "export", lab)
    page.get_by_role("button", name="fixed").click()
    page.get_by_role("button", name="OpenVINO").click()
    expect(page.get_by_label("Height")).to_be_hidden()
    page.locator("#panel-export button[type=submit]").click()
    page.locator(".export-card .figures").wait_for()
    expect(page.locator(".export-card .note.warn")).to_contain_text("more than the allowed 0.001")
    (order,) = lab.asked_for("POST", "exports")
    assert order == {"model": "resnet18-db", "format": "openvino", "int8": False}


def test_an_export_is_cancelled(open_page: OpenPage) -> None:
    lab = FakeLab()
    lab.patience = 100
    page = open_tab(open_page, "export", lab)
    page.locator("#panel-export button[type=submit]").click()
    page.locator(".export-card").get_by_role("button", name="Cancel").click()
    expect(page.locator(".export-card .badge.cancelled")).to_be_visible()
    assert lab.asked_for("POST", "exports/export-0/cancel") == [{}]


def test_a_list_of_exports_that_fails_says_so(open_page: OpenPage) -> None:
    page = open_page()
    hurry(page)
    FakeLab().attach(page)
    page.route("**/v1/lab/exports", lambda route: route.fulfill(status=500, json={"code": "internal", "detail": "oh"}))
    page.locator("#tab-export").click()
    expect(page.get_by_role("alert")).to_contain_text("The service has a fault")
    page.unroute("**/v1/lab/exports")
    expect(page.get_by_role("alert")).to_have_count(0)


def test_a_run_that_is_gone_shows_nothing_of_another(open_page: OpenPage) -> None:
    page = open_page()
    hurry(page)
    lab = FakeLab()
    lab.attach(page)
    page.route("**/v1/lab/runs/gone", lambda route: route.fulfill(status=404, json={"code": "not_found", "detail": ""}))
    run = page.locator("#panel-tune .run")
    page.evaluate("location.hash = 'tune/gone'")
    expect(run.get_by_role("alert")).to_contain_text("not there any more")
    expect(run.get_by_role("button")).to_have_count(0)
    page.get_by_role("button", name="Start training").click()
    page.locator("#panel-tune[data-run=finished]").wait_for()
    expect(run.get_by_role("button", name="Use this model")).to_be_visible()
    page.evaluate("location.hash = 'tune/gone'")
    expect(run.get_by_role("alert")).to_contain_text("not there any more")
    expect(run.get_by_role("button")).to_have_count(0)
    expect(run.locator("h2")).to_be_hidden()


def test_what_is_said_of_one_data_set_is_not_said_of_another(open_page: OpenPage) -> None:
    page = open_page()
    lab = FakeLab()
    lab.attach(page)
    slow = held(page, "**/receipts-2026/report")
    unusable = {"pictures": 7, "errors": 1, "usable": False, "left_out": 0, "problems": []}
    page.route("**/street-signs/report", lambda route: route.fulfill(json=unusable))
    report, start = page.locator(".report"), page.get_by_role("button", name="Start training")
    page.locator("#tab-tune").click()
    late = wait_for(page, slow)
    page.locator("#tune-dataset").select_option("street-signs")
    expect(report).to_contain_text("7 pictures")
    with page.expect_response("**/receipts-2026/report"):
        late.fulfill(status=500, json={"code": "internal", "detail": "oh"})
    page.wait_for_timeout(50)
    expect(report).to_contain_text("7 pictures")
    # Nor does an order for the one that is refused make the other one fit to start with.
    page.locator("#tune-dataset").select_option("receipts-2026")
    expect(report).to_contain_text("240 pictures")
    orders = held(page, "**/v1/lab/runs", when=lambda request: request.method == "POST")
    start.click()
    order = wait_for(page, orders)
    page.locator("#tune-dataset").select_option("street-signs")
    expect(report).to_contain_text("7 pictures")
    order.fulfill(status=409, json={"code": "conflict", "detail": "another run is under way"})
    expect(page.locator("#panel-tune form").get_by_role("alert").last).to_contain_text("does not fit")
    expect(start).to_be_disabled()


def test_who_leaves_waits_for_no_report(open_page: OpenPage) -> None:
    page = open_page()
    FakeLab().attach(page)
    page.route("**/v1/lab/datasets/*/report", lambda _: None)
    with page.expect_request("**/report"):
        page.locator("#tab-tune").click()
    with page.expect_event("requestfailed", lambda request: request.url.endswith("/report")):
        page.locator("#tab-single").click()
    with page.expect_request("**/report"):
        page.locator("#tab-tune").click()
    expect(page.locator(".report")).to_contain_text("Checking the data set")
    expect(page.get_by_role("alert")).to_have_count(0)


def test_a_double_click_orders_once(open_page: OpenPage) -> None:
    lab = FakeLab()
    page = open_tab(open_page, "tune", lab)
    page.get_by_role("button", name="Start training").click()
    page.locator("#panel-tune[data-run=finished]").wait_for()
    page.get_by_role("button", name="Use this model").dblclick()
    expect(page.locator(".run .note").last).to_contain_text("The service reads with lab-run-0 now")
    assert lab.asked_for("POST", "runs/run-0/use") == [{}]


def test_the_model_to_start_from_stays_chosen(open_page: OpenPage) -> None:
    page = open_tab(open_page, "tune", FakeLab())
    model = page.locator("#tune-model")
    expect(model).to_have_value("resnet18-db")
    page.locator(".more summary").click()
    model.select_option("receipts-v2")
    page.locator("#tab-single").click()
    with page.expect_response("**/v1/lab/runs"):
        page.locator("#tab-tune").click()
    expect(model).to_have_value("receipts-v2")


def test_the_report_on_a_data_set_changes_its_language(open_page: OpenPage) -> None:
    page = open_tab(open_page, "tune", FakeLab())
    report = page.locator(".report")
    expect(report).to_contain_text("240 pictures")
    page.locator("#language-button").click()
    expect(report).to_contain_text("240 张图片")
    expect(report.locator("summary")).to_contain_text("查看 3 条")


def test_focus_stays_on_an_export_under_way(open_page: OpenPage) -> None:
    lab = FakeLab()
    lab.patience = 100
    page = open_tab(open_page, "export", lab)
    page.locator("#panel-export button[type=submit]").click()
    stop = page.locator(".export-card").get_by_role("button", name="Cancel")
    stop.focus()
    for _ in range(2):
        with page.expect_response("**/v1/lab/exports"):
            pass
    expect(stop).to_be_focused()
    lab.patience = 1
    expect(page.locator(".export-card .figures")).to_be_visible()
