"""The review page in a browser: what a script in a note does, keys, filters, a very long note."""

from __future__ import annotations

import html
import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from review_cases import HOSTILE, code, hostile_page, write_codes, write_notes

from pipeline.reports.review import collect, render

CHROMIUM = shutil.which("chromium")
in_browser = pytest.mark.skipif(CHROMIUM is None, reason="no chromium on this machine to open the page with")

PROBE = """
<pre id="result"></pre><script>
const press = (key) => document.activeElement.dispatchEvent(new KeyboardEvent("keydown", {key, bubbles: true}));
const active = () => document.querySelector(".code.active .name-of-code")?.textContent;
const here = () => [...document.querySelectorAll("mark.here")].map((mark) => mark.textContent).join("|");
const result = {};
%s
document.getElementById("result").textContent = JSON.stringify(result);
</script></body>"""


def dumped(page: str, folder: Path, fragment: str = "") -> str:
    """The page's elements after it has loaded and its scripts have run, as the browser writes them out."""
    path = folder / "page.html"
    path.write_text(page, encoding="utf-8")
    assert CHROMIUM is not None
    command = [
        CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking",
        f"--user-data-dir={folder / 'profile'}", "--virtual-time-budget=2000", "--dump-dom", path.as_uri() + fragment,
    ]  # fmt: skip
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=True).stdout


def probed(page: str, script: str, folder: Path) -> dict[str, Any]:
    """Run a script in the page; only for this its policy, which would refuse the script, is taken out."""
    page = re.sub(r'<meta http-equiv="Content-Security-Policy"[^>]*>', "", page)
    found = re.search(
        r'<pre id="result">(.*?)</pre>', dumped(page.replace("</body>", PROBE % script), folder), re.DOTALL
    )
    assert found is not None
    result: dict[str, Any] = json.loads(html.unescape(found[1]))
    return result


@pytest.mark.slow
@in_browser
@pytest.mark.parametrize("has_policy", [True, False])
def test_a_script_in_a_note_is_text_in_a_browser_even_without_the_policy(tmp_path: Path, has_policy: bool) -> None:
    page = hostile_page(tmp_path)
    if not has_policy:
        page = re.sub(r'<meta http-equiv="Content-Security-Policy"[^>]*>', "", page)
    dom = dumped(page, tmp_path)
    assert "<title>Review of proposed codes</title>" in dom
    note = re.search(r'<div id="note" tabindex="0">(.*?)</div>', dom, re.DOTALL)
    assert note is not None
    assert set(re.findall(r"<(\w+)", note[1])) == {"mark"}
    assert html.unescape(re.sub(r"</?mark[^>]*>", "", note[1])) == HOSTILE
    assert re.findall(r"<mark[^>]*>(.*?)</mark>", note[1]) == ["fever"]
    assert "&lt;i&gt;R50&lt;/i&gt;" in dom


@pytest.fixture
def page(tmp_path: Path) -> str:
    text = "No cough. High fever. Then pneumonia, again fever."
    first = [code("R50", 0.9, (15, 20), (44, 49)), code("J18.9", 0.6, (27, 36), rank=2), code("I10", 0.2, rank=3)]
    predictions = write_codes(tmp_path / "c.jsonl", ("=d,1", first), ('d"2', [code("R05", 0.8, (3, 8))]), ("d3", []))
    notes = write_notes(tmp_path / "n.jsonl", **{"=d,1": text, 'd"2': "No cough.", "d3": ""})
    return render(collect(predictions, notes, max_documents=9))


@pytest.mark.slow
@in_browser
@pytest.mark.parametrize(
    ("fragment", "opened"), [("#d%222", 'd"2'), ("#d3", "d3"), ("#%", "=d,1"), ("#%E0%A4%A", "=d,1"), ("", "=d,1")]
)
def test_the_document_named_behind_the_address_opens_and_else_the_first(
    page: str, tmp_path: Path, fragment: str, opened: str
) -> None:
    found = re.search(r'<h2 id="document-id">(.*?)</h2>', dumped(page, tmp_path, fragment))
    assert found is not None
    assert html.unescape(found[1]) == opened


KEYS = """
result.start = active();
press("e"); result.first = here(); press("e"); result.second = here(); press("e"); result.around = here();
press("a"); result.afterAccept = active(); result.jumped = here();
press("r"); press("k"); result.back = active(); press("u");
press("n"); result.next = document.getElementById("document-id").textContent; result.nextCode = active();
press("r"); press("n"); press("n"); result.last = document.getElementById("document-id").textContent;
result.none = document.querySelector("#codes .none").textContent;
press("p"); press("p"); result.classes = [...document.querySelectorAll(".code")].map((one) => one.className);
result.progress = document.getElementById("progress-text").textContent;
document.getElementById("find").focus(); press("r");
result.typed = document.querySelectorAll(".code.rejected").length;
document.activeElement.blur();
let csv = "", name = "";
URL.createObjectURL = (blob) => { blob.text().then((text) => { result.csv = text;
  document.getElementById("result").textContent = JSON.stringify(result); }); return "#"; };
press("x");
"""


@pytest.mark.slow
@in_browser
def test_keys_move_jump_decide_and_export(page: str, tmp_path: Path) -> None:
    found = probed(page, KEYS, tmp_path)
    assert (found["start"], found["first"], found["second"], found["around"]) == ("R50", "fever", "fever", "fever")
    assert (found["afterAccept"], found["jumped"]) == ("J18.9", "pneumonia")
    assert found["back"] == "J18.9"
    assert (found["next"], found["nextCode"], found["last"]) == ('d"2', "R05", "d3")
    assert found["none"] == "No code is proposed."
    assert "accepted" in found["classes"][0]
    assert "rejected" not in found["classes"][1], "taken back"
    assert found["progress"] == "2 of 4 decided"
    assert found["typed"] == 0, "a letter typed into the search box decides nothing"
    assert found["csv"].split("\r\n") == [
        "document_id,code_system,code,probability,is_predicted,decision",
        '"\'=d,1","icd10cm","R50",0.9,true,accepted',
        '"\'=d,1","icd10cm","J18.9",0.6,true,open',
        '"\'=d,1","icd10cm","I10",0.2,false,open',
        '"d""2","icd10cm","R05",0.8,true,rejected',
        "",
    ]


FILTER = """
const input = document.getElementById("minimum");
const slide = (value) => { input.value = value; input.dispatchEvent(new Event("input")); };
const codes = () => [...document.querySelectorAll(".name-of-code")].map((one) => one.textContent);
const marked = () => [...document.querySelectorAll("mark")].map((one) => one.textContent);
result.all = codes(); slide(50); result.half = codes(); slide(80); result.high = codes(); result.marked = marked();
result.shown = document.getElementById("minimum-shown").textContent;
slide(95); result.empty = document.querySelector("#codes .none").textContent; slide(0);
const find = document.getElementById("find"); find.value = "D3"; find.dispatchEvent(new Event("input"));
result.found = [...document.querySelectorAll("#documents .name")].map((one) => one.textContent);
find.value = ""; find.dispatchEvent(new Event("input"));
document.querySelectorAll("#note mark")[1].click(); result.byMark = active();
input.focus(); slide(50); result.kept = active(); press("k"); press("a");
result.decided = document.getElementById("progress-text").textContent; press("u"); slide(0);
document.querySelectorAll(".evidence button")[1].click(); result.byButton = active(); result.at = here();
document.querySelector(".choices .no").click(); result.rejected = document.querySelectorAll(".code.rejected").length;
document.querySelector(".choices .no").click(); result.again = document.querySelectorAll(".code.rejected").length;
result.below = [...document.querySelectorAll(".code")].filter((one) => one.textContent.includes("not proposed"))
  .map((one) => one.querySelector(".name-of-code").textContent);
result.onPaper = document.getElementById("on-paper").textContent;
"""


@pytest.mark.slow
@in_browser
def test_the_filter_the_search_and_the_mouse_do_what_they_say(page: str, tmp_path: Path) -> None:
    found = probed(page, FILTER, tmp_path)
    assert (found["all"], found["half"], found["high"]) == (["R50", "J18.9", "I10"], ["R50", "J18.9"], ["R50"])
    assert (found["marked"], found["shown"]) == (["fever", "fever"], "80 %")
    assert found["empty"] == "All codes lie below the chosen probability."
    assert found["found"] == ["d3"]
    assert (found["byMark"], found["byButton"], found["at"]) == ("J18.9", "R50", "fever")
    assert (found["rejected"], found["again"]) == (1, 0)
    assert (found["kept"], found["decided"]) == ("J18.9", "1 of 3 decided"), "keys work behind the slider"
    assert found["below"] == ["I10"], "what the model does not propose says so"
    assert found["onPaper"] == "Document 1 of 3; the others are not on this printout."


@pytest.mark.slow
@in_browser
def test_a_note_of_200000_words_opens(tmp_path: Path) -> None:
    text = "fever and chills. " * 66_667
    predictions = write_codes(tmp_path / "c.jsonl", ("a", [code("R50", 0.9, (1_100_006, 1_100_009))]))
    big = render(collect(predictions, write_notes(tmp_path / "n.jsonl", a=text), max_documents=9))
    found = probed(big, 'result.facts = document.getElementById("document-facts").textContent;', tmp_path)
    assert found == {"facts": "200,001 words"}
