(() => {
  const table = document.getElementById("codes"), body = table.tBodies[0], rows = [...body.rows];
  const find = document.getElementById("find"), found = document.getElementById("found");
  const paper = document.querySelector(".paper"), MAX_ON_PAPER = 60;
  const words = rows.map(row => [0, 1, 2].map(i => row.cells[i].textContent).join(" ").toLowerCase());
  const limitPaper = () => {
    const shown = [...body.rows].filter(row => !row.hidden), wanted = find.value.trim();
    shown.forEach((row, place) => row.classList.toggle("beyond", place >= MAX_ON_PAPER));
    found.textContent = wanted ? `${shown.length} of ${rows.length} codes` : "";
    paper.textContent = `On paper: ${Math.min(shown.length, MAX_ON_PAPER)} of ${shown.length}${wanted ? ` that hold “${wanted}”` : ""}.`;
  };
  find.addEventListener("input", () => {
    const wanted = find.value.toLowerCase().split(/\s+/).filter(Boolean);
    rows.forEach((row, i) => { row.hidden = !wanted.every(word => words[i].includes(word)); });
    limitPaper();
  });
  const isText = i => !table.tHead.rows[0].cells[i].classList.contains("n");
  const value = (row, i) => {
    const text = row.cells[i].textContent.trim();
    return isText(i) ? text : text === "–" ? -1 : parseFloat(text.replaceAll(",", ""));
  };
  [...table.tHead.rows[0].cells].forEach((head, i) => head.firstElementChild.addEventListener("click", () => {
    const up = head.getAttribute("aria-sort") === "descending" || (isText(i) && !head.hasAttribute("aria-sort"));
    [...table.tHead.rows[0].cells].forEach(cell => cell.removeAttribute("aria-sort"));
    head.setAttribute("aria-sort", up ? "ascending" : "descending");
    const sorted = [...rows].sort((a, b) => {
      const x = value(a, i), y = value(b, i);
      return (isText(i) ? x.localeCompare(y) : x - y) * (up ? 1 : -1);
    });
    body.append(...sorted);
    limitPaper();
  }));
  limitPaper();
})();
