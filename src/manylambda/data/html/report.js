"use strict";
(() => {
  const all = (selector, root = document) => [...root.querySelectorAll(selector)];
  const one = (selector, root = document) => root.querySelector(selector);

  // Findings: filter by words, rule and severity.
  const filter = one("#filter"), words = one("#words"), rule = one("#rule");
  const cards = all(".group .card").map((card) => ({
    card,
    group: card.closest(".group"),
    findings: all(".finding", card).map((finding) => ({ finding, text: finding.textContent.toLowerCase() })),
    about: `${card.dataset.rule} ${one("h3", card.closest(".group")).textContent} ${one(".hint", card)?.textContent ?? ""}`.toLowerCase(),
  }));
  const sift = () => {
    const wanted = words.value.toLowerCase().split(/\s+/).filter(Boolean);
    const severities = new Set(all("[type=checkbox]:checked", filter).map((box) => box.value));
    const groups = new Set();
    let shown = 0;
    for (const { card, group, findings, about } of cards) {
      const fits = severities.has(card.dataset.severity) && (!rule.value || rule.value === card.dataset.rule);
      let visible = 0;
      for (const { finding, text } of findings) {
        finding.hidden = !(fits && wanted.every((word) => text.includes(word) || about.includes(word)));
        visible += !finding.hidden;
      }
      card.hidden = !visible;
      if (visible) groups.add(group);
      shown += visible;
    }
    for (const group of all(".group")) group.hidden = !groups.has(group);
    one("#nothing").hidden = shown > 0;
    one("#shown").textContent = `${shown} shown`;
  };
  if (filter) {
    filter.hidden = false;
    filter.addEventListener("input", sift);
    sift(); // a reload keeps what was typed
  }

  // Keys: `/` to the filter, j and k or the arrows from finding to finding.
  const stops = () => cards.filter(({ card }) => !card.hidden).map(({ card }) => one(".page > summary, p.page > a", card) ?? card);
  const go = (step) => {
    const list = stops();
    const here = list.findIndex((stop) => stop.closest(".card").contains(document.activeElement));
    const next = list[here < 0 ? (step > 0 ? 0 : list.length - 1) : Math.min(Math.max(here + step, 0), list.length - 1)];
    if (!next) return;
    if (next.matches(".card")) next.tabIndex = -1;
    next.focus({ preventScroll: true });
    next.closest(".card").scrollIntoView({ block: "nearest" });
  };
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const typing = event.target.matches("input[type=search], select, textarea");
    if (event.key === "Escape" && event.target === words) {
      words.value = "";
      sift();
      words.blur();
    } else if (typing && !(event.target === words && event.key === "ArrowDown")) {
      return;
    } else if (event.key === "/" && filter) {
      words.focus();
      words.select();
    } else if (event.key === "j" || (event.key === "ArrowDown" && event.target.closest(".card, #filter"))) {
      go(1);
    } else if (event.key === "k" || (event.key === "ArrowUp" && event.target.closest(".card"))) {
      go(-1);
    } else {
      return;
    }
    event.preventDefault();
  });

  // What a link leads to is opened.
  const reveal = () => {
    const target = location.hash.length > 1 && document.getElementById(decodeURIComponent(location.hash.slice(1)));
    if (target && target.matches("details")) {
      target.open = true;
      target.scrollIntoView();
    }
  };
  addEventListener("hashchange", reveal);
  reveal();

  // Tables: a click on a heading sorts.
  for (const table of all("table")) {
    const body = one("tbody", table);
    if (body.rows.length < 3) continue;
    all("thead th", table).forEach((heading, column) => {
      const button = document.createElement("button");
      button.type = "button";
      button.textContent = heading.textContent;
      heading.replaceChildren(button);
      const value = (row) => {
        const cell = row.cells[column];
        return cell?.dataset.value === undefined ? cell?.textContent ?? "" : Number(cell.dataset.value);
      };
      button.addEventListener("click", () => {
        const falls = heading.getAttribute("aria-sort") === "descending" ||
          (!heading.hasAttribute("aria-sort") && !heading.matches(".number"));
        for (const each of all("th", table)) each.removeAttribute("aria-sort");
        heading.setAttribute("aria-sort", falls ? "ascending" : "descending");
        const compare = (a, b) => (typeof a === "number" && typeof b === "number" ? a - b : String(a).localeCompare(String(b), "en"));
        body.append(...[...body.rows].sort((a, b) => compare(value(a), value(b)) * (falls ? 1 : -1)));
      });
    });
  }

  // Linkage: what hangs together with a node lights up; in the picture the arrows go from node to node.
  const caption = (picture, text) => {
    picture.parentElement.querySelector(":scope > .caption").textContent = text;
  };
  for (const svg of all("svg.linkage")) {
    const picture = svg.closest(".picture"), nodes = all(".node", svg), edges = all(".edge", svg);
    const ends = edges.map((edge) => edge.dataset.edge.split(" "));
    const light = (node) => {
      svg.classList.toggle("lit", Boolean(node));
      for (const each of [...nodes, ...edges]) each.classList.remove("on", "at");
      caption(picture, node ? one("title", node).textContent : "");
      if (!node) return;
      const lit = new Set([node.dataset.node]);
      const follow = (from, to) => {
        const seen = new Set([node.dataset.node]);
        for (const number of seen) {
          ends.forEach((pair, at) => {
            if (pair[from] !== number) return;
            edges[at].classList.add("on");
            seen.add(pair[to]);
            lit.add(pair[to]);
          });
        }
      };
      follow(0, 1);
      follow(1, 0);
      for (const each of nodes) each.classList.toggle("on", lit.has(each.dataset.node));
      node.classList.add("at");
    };
    svg.addEventListener("pointerover", (event) => light(event.target.closest(".node")));
    svg.addEventListener("pointerleave", () => light(null));
    picture.addEventListener("blur", () => light(null));
    picture.addEventListener("keydown", (event) => {
      const step = { ArrowDown: 1, ArrowRight: 1, ArrowUp: -1, ArrowLeft: -1 }[event.key];
      if (!step) return;
      const here = nodes.findIndex((node) => node.classList.contains("at"));
      const node = nodes[(here + step + nodes.length) % nodes.length];
      light(node);
      node.scrollIntoView({ block: "nearest", inline: "nearest" });
      event.preventDefault();
    });
  }
  for (const svg of all("svg.treemap, svg.icicle")) {
    const picture = svg.closest(".picture");
    let last = null;
    const point = (rect) => {
      last?.classList.remove("at");
      rect?.classList.add("at");
      last = rect;
      caption(picture, rect ? one("title", rect).textContent : "");
    };
    svg.addEventListener("pointerover", (event) => point(event.target.closest("rect")));
    svg.addEventListener("pointerleave", () => point(null));
  }

  // On paper everything is open.
  let opened = [];
  addEventListener("beforeprint", () => {
    opened = all("#findings details:not([open])");
    for (const each of opened) each.open = true;
  });
  addEventListener("afterprint", () => {
    for (const each of opened) each.open = false;
  });
})();
