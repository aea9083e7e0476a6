"use strict";
(() => {
  const documents = JSON.parse(document.getElementById("data").textContent).documents;
  const byId = (id) => document.getElementById(id);
  const systems = { icd10cm: "ICD-10-CM", icd10pcs: "ICD-10-PCS", icd9cm: "ICD-9-CM", icd9pcs: "ICD-9 procedures", none: "" };
  const state = { place: 0, code: -1, evidence: -1, minimum: 0, isExported: true };
  const decisions = documents.map((one) => one.codes.map(() => ""));
  let marks = [];

  // All content of documents goes in as text nodes; nothing in this script writes markup.
  const element = (name, className = "", text = "") => {
    const made = document.createElement(name);
    if (className) made.className = className;
    if (text) made.textContent = text;
    return made;
  };
  const percent = (value) => (value > 0.995 && value < 1 ? "> 99 %" : `${Math.round(100 * value)} %`);
  const shown = (place) => documents[place].codes.flatMap((code, index) => (code.probability >= state.minimum ? [index] : []));
  const decided = (place) => shown(place).filter((index) => decisions[place][index]).length;

  function drawDocuments() {
    const wanted = byId("find").value.trim().toLowerCase();
    const list = byId("documents");
    list.replaceChildren();
    documents.forEach((one, place) => {
      if (wanted && !one.id.toLowerCase().includes(wanted)) return;
      const item = element("li");
      const button = element("button");
      button.type = "button";
      button.setAttribute("aria-current", String(place === state.place));
      const name = element("span", "name", one.id);
      name.title = one.id;
      button.append(name, element("span", "count"));
      button.addEventListener("click", () => openDocument(place));
      button.dataset.place = place;
      item.append(button);
      list.append(item);
    });
    drawProgress();
  }

  function drawProgress() {
    for (const button of byId("documents").querySelectorAll("button")) {
      const place = Number(button.dataset.place);
      const [done, all] = [decided(place), shown(place).length];
      button.classList.toggle("done", done === all && all > 0);
      button.lastChild.textContent = done === all && all > 0 ? `✓ ${all}` : done ? `${done}/${all}` : String(all);
      button.setAttribute("aria-current", String(place === state.place));
    }
    const done = documents.reduce((sum, _, place) => sum + decided(place), 0);
    const all = documents.reduce((sum, _, place) => sum + shown(place).length, 0);
    byId("progress-text").textContent = `${done} of ${all} decided`;
    byId("progress").max = Math.max(all, 1);
    byId("progress").value = done;
  }

  function openDocument(place) {
    state.place = place;
    const one = documents[place];
    byId("document-id").textContent = one.id;
    const nWords = (one.text.match(/\S+/g) || []).length;
    byId("document-facts").textContent = `${nWords.toLocaleString("en")} words`;
    byId("on-paper").textContent = `Document ${place + 1} of ${documents.length}; the others are not on this printout.`;
    drawNote();
    byId("note").scrollTop = 0;
    drawCodes();
    selectCode(shown(place)[0] ?? -1, false);
    drawProgress();
    byId("documents").querySelector("[aria-current=true]")?.scrollIntoView({ block: "nearest" });
  }

  // The note falls into stretches between all starts and ends of evidence; each knows the spans that cover it.
  function drawNote() {
    const { text, codes } = documents[state.place];
    const spans = shown(state.place).flatMap((code) => codes[code].evidence.map(([start, end], number) => ({ code, number, start, end })));
    const cuts = [...new Set([0, text.length, ...spans.flatMap((one) => [one.start, one.end])])].sort((a, b) => a - b);
    const note = byId("note");
    note.replaceChildren();
    marks = [];
    for (let i = 0; i + 1 < cuts.length; i += 1) {
      const [start, end] = [cuts[i], cuts[i + 1]];
      const covering = spans.filter((one) => one.start <= start && end <= one.end);
      const piece = document.createTextNode(text.slice(start, end));
      if (!covering.length) { note.append(piece); continue; }
      const mark = element("mark");
      mark.append(piece);
      mark.title = covering.map((one) => codes[one.code].code).join(", ");
      mark.addEventListener("click", () => { selectCode(covering[0].code, false); byId("codes").querySelector(".active")?.scrollIntoView({ block: "nearest" }); });
      note.append(mark);
      for (const one of covering) marks.push({ ...one, mark });
    }
  }

  function drawCodes() {
    const one = documents[state.place];
    const list = byId("codes");
    list.replaceChildren();
    for (const index of shown(state.place)) list.append(codeCard(one, index));
    if (!list.childElementCount) list.append(element("li", "none", one.codes.length ? "All codes lie below the chosen probability." : "No code is proposed."));
  }

  function codeCard(one, index) {
    const code = one.codes[index];
    const card = element("li", code.isPredicted ? "code" : "code below");
    card.dataset.index = index;
    const line = element("div", "line");
    line.append(element("span", "name-of-code", code.code), element("span", "system", systems[code.system] ?? code.system), element("span", "probability", percent(code.probability)));
    const bar = element("div", "bar");
    bar.append(element("i"));
    bar.firstChild.style.width = `${100 * code.probability}%`;
    card.append(line, element("div", "title", code.title || "(no title)"), bar);
    if (!code.isPredicted) card.append(element("p", "none", "Below the threshold of this code: not proposed by the model."));
    if (code.evidence.length) card.append(evidenceList(one, index, code));
    else card.append(element("p", "none", !one.fits ? "Coded from another text than this note." : one.hasEvidence ? "No word stands out." : "Predicted without evidence."));
    const choices = element("div", "choices");
    for (const [value, className, label, key] of [["accepted", "yes", "Accept", "a"], ["rejected", "no", "Reject", "r"]]) {
      const button = element("button", className, `${label} `);
      button.type = "button";
      button.append(element("kbd", "", key));
      button.addEventListener("click", (event) => { event.stopPropagation(); selectCode(index, false); decide(decisions[state.place][index] === value ? "" : value, false); });
      choices.append(button);
    }
    card.append(choices);
    card.addEventListener("click", () => selectCode(index, true));
    showDecision(card, index);
    return card;
  }

  // At most 70 characters of the sentence on either side, cut at a blank.
  function wordStart(text, sentenceStart, start) {
    if (start - sentenceStart <= 70) return sentenceStart;
    const blank = text.slice(start - 70, start).search(/\s/);
    return blank < 0 ? start : start - 70 + blank;
  }
  function wordEnd(text, sentenceEnd, end) {
    if (sentenceEnd - end <= 70) return sentenceEnd;
    const piece = text.slice(end, end + 70);
    return end + Math.max(piece.search(/\s\S*$/), 0);
  }

  function evidenceList(one, index, code) {
    const list = element("div", "evidence");
    code.evidence.forEach(([start, end, score, section, sentenceStart, sentenceEnd, source], number) => {
      const button = element("button");
      button.type = "button";
      const where = element("span", "where", section);
      where.append(element("span", "", source === "tfidf" ? `${percent(score)} of TF-IDF` : source !== "title" ? `${percent(score)} of evidence` : score > 0.999 ? "title of the code" : `${percent(score)} of the title`));
      const [from, to] = [wordStart(one.text, sentenceStart, start), wordEnd(one.text, sentenceEnd, end)];
      const clean = (piece) => piece.replace(/\s+/g, " ");
      const words = element("span");
      words.append((from > sentenceStart ? "… " : "") + clean(one.text.slice(from, start)), element("b", "", clean(one.text.slice(start, Math.min(end, start + 200)))), clean(one.text.slice(end, to)) + (to < sentenceEnd ? " …" : ""));
      button.append(where, words);
      button.addEventListener("click", (event) => { event.stopPropagation(); selectCode(index, false); jump(number); });
      list.append(button);
    });
    return list;
  }

  function showDecision(card, index) {
    const decision = decisions[state.place][index];
    card.classList.toggle("accepted", decision === "accepted");
    card.classList.toggle("rejected", decision === "rejected");
    card.querySelector(".yes").setAttribute("aria-pressed", String(decision === "accepted"));
    card.querySelector(".no").setAttribute("aria-pressed", String(decision === "rejected"));
  }

  function selectCode(index, jumps) {
    state.code = index;
    state.evidence = -1;
    for (const card of byId("codes").children) card.classList.toggle("active", Number(card.dataset.index) === index);
    for (const { code, mark } of marks) mark.classList.remove("on", "here");
    for (const { code, mark } of marks) if (code === index) mark.classList.add("on");
    byId("codes").querySelector(".active")?.scrollIntoView({ block: "nearest" });
    if (jumps) jump(0);
  }

  function jump(number) {
    const evidence = documents[state.place].codes[state.code]?.evidence ?? [];
    if (!evidence.length) return;
    state.evidence = number % evidence.length;
    for (const { mark } of marks) mark.classList.remove("here");
    const hit = marks.filter((one) => one.code === state.code && one.number === state.evidence);
    for (const { mark } of hit) mark.classList.add("here");
    hit[0]?.mark.scrollIntoView({ block: "center" });
  }

  function decide(value, goesOn) {
    if (state.code < 0) return;
    decisions[state.place][state.code] = value;
    state.isExported = false;
    const card = [...byId("codes").children].find((one) => Number(one.dataset.index) === state.code);
    if (card) showDecision(card, state.code);
    drawProgress();
    if (goesOn) step(1);
  }

  function step(by) {
    const order = shown(state.place);
    const next = order[order.indexOf(state.code) + by];
    if (next !== undefined) selectCode(next, true);
  }

  function stepDocument(by) {
    const places = [...byId("documents").querySelectorAll("button")].map((one) => Number(one.dataset.place));
    const next = places[places.indexOf(state.place) + by];
    if (next !== undefined) openDocument(next);
  }

  function exportDecisions() {
    // The twin of csv_cell in pipeline/files.py: what a spreadsheet would compute begins with an apostrophe.
    const isFormula = (text) => /^'*[=+\-@\t\r]/.test(text) && !/^[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?$/i.test(text);
    const spreadsheetCell = (text) => (isFormula(text) ? `'${text}` : text);
    const quoted = (value) => `"${spreadsheetCell(String(value)).replaceAll('"', '""')}"`;
    const rows = [["document_id", "code_system", "code", "probability", "is_predicted", "decision"].join(",")];
    documents.forEach((one, place) => one.codes.forEach((code, index) => {
      rows.push([quoted(one.id), quoted(code.system), quoted(code.code), code.probability, code.isPredicted, decisions[place][index] || "open"].join(","));
    }));
    const link = element("a");
    link.href = URL.createObjectURL(new Blob([`${rows.join("\r\n")}\r\n`], { type: "text/csv" }));
    link.download = "decisions.csv";
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 10000);
    state.isExported = true;
  }

  const keys = {
    j: () => step(1), ArrowDown: () => step(1), k: () => step(-1), ArrowUp: () => step(-1), e: () => jump(state.evidence + 1),
    a: () => decide("accepted", true), r: () => decide("rejected", true), u: () => decide("", false),
    n: () => stepDocument(1), p: () => stepDocument(-1), f: () => byId("find").focus(), x: exportDecisions, "?": () => byId("help").showModal(),
  };
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || byId("help").open) return;
    if (event.target.matches("#minimum") && event.key.startsWith("Arrow")) return;
    if (event.target.matches("#find")) { if (event.key === "Escape") event.target.blur(); return; }
    if (event.key.startsWith("Arrow") && event.target.id === "note") return;
    const action = keys[event.key];
    if (action) { event.preventDefault(); action(); }
  });
  window.addEventListener("beforeunload", (event) => { if (!state.isExported) event.preventDefault(); });
  byId("export").addEventListener("click", exportDecisions);
  byId("help-open").addEventListener("click", () => byId("help").showModal());
  byId("find").addEventListener("input", drawDocuments);
  byId("minimum").addEventListener("input", (event) => {
    state.minimum = Number(event.target.value) / 100;
    byId("minimum-shown").textContent = `${event.target.value} %`;
    const [top, order] = [byId("note").scrollTop, shown(state.place)];
    drawNote();
    drawCodes();
    selectCode(order.includes(state.code) ? state.code : order[0] ?? -1, false);
    byId("note").scrollTop = top;
    drawProgress();
  });
  let wanted = location.hash.slice(1);
  try { wanted = decodeURIComponent(wanted); } catch { /* not encoded, such as "50%": as it stands */ }
  drawDocuments();
  openDocument(Math.max(documents.findIndex((one) => one.id === wanted), 0));
})();
