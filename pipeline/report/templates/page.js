"use strict";
// Sorting of tables, and confusion matrices of two models with their difference. Without this script all else stays.

for (const table of document.querySelectorAll("table.sortable")) {
  const heads = [...table.tHead.rows[0].cells], body = table.tBodies[0];
  const key = (row, place) => {
    const cell = row.cells[place];
    const text = cell.dataset.value ?? cell.textContent.trim().replace("−", "-");
    const number = parseFloat(text);
    return Number.isNaN(number) ? text : number;
  };
  const before = (a, b) => typeof a === "number" && typeof b === "number" ? a - b
    : typeof a === "number" ? 1 : typeof b === "number" ? -1 : a.localeCompare(b);
  heads.forEach((head, place) => {
    const button = document.createElement("button");
    button.type = "button";
    button.append(...head.childNodes);
    head.append(button);
    button.addEventListener("click", () => {
      const rows = [...body.rows];
      const now = head.getAttribute("aria-sort");
      const names = typeof key(rows[0], place) === "string";  // from A, numbers from the largest
      const down = now ? now === "ascending" : !names;
      heads.forEach(other => other.removeAttribute("aria-sort"));
      head.setAttribute("aria-sort", down ? "descending" : "ascending");
      rows.sort((a, b) => (down ? -1 : 1) * before(key(a, place), key(b, place)));
      body.append(...rows);
    });
  });
}

// What is folded away on the screen is shown on paper.
addEventListener("beforeprint", () => {
  for (const folded of document.querySelectorAll("details")) folded.open = true;
});

const source = document.getElementById("counts");
if (source) {
  const { classes, models } = JSON.parse(source.textContent);
  const [first, second] = ["first", "second"].map(id => document.getElementById(id));
  const compared = document.getElementById("compared"), told = document.getElementById("told");
  const size = classes.length, named = size <= 40, counted = size <= 20;
  const shares = models.map(({ counts }) => counts.map(row => {
    const all = row.reduce((sum, count) => sum + count, 0);
    return row.map(count => all ? count / all : 0);
  }));

  const rgb = hex => [1, 3, 5].map(at => parseInt(hex.slice(at, at + 2), 16));
  const mix = (ground, tone, share) => ground.map((value, i) => value + (tone[i] - value) * share);
  const light = colour => {  // relative luminance, as WCAG has it
    const [r, g, b] = colour.map(value => value / 255).map(v => v <= .03928 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4);
    return .2126 * r + .7152 * g + .0722 * b;
  };
  const percent = share => (100 * share).toFixed(share && share < .0995 ? 1 : 0);
  const points = share => (share < 0 ? "−" : "+") + (100 * Math.abs(share)).toFixed(1);

  const element = (name, attributes, ...content) => {
    const made = document.createElementNS("http://www.w3.org/2000/svg", name);
    for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
    made.append(...content);
    return made;
  };

  // One matrix: `fill` gives a cell's colour and text.
  function matrix(title, alt, ground, fill) {
    const cell = 30, long = Math.max(...classes.map(name => name.length));
    const edge = named ? Math.min(110, 9 + 6.6 * long) : 6, slant = long > 3;
    const foot = named ? (slant ? 8 + 4.8 * long : 20) : 6;
    const side = named ? cell * size : 300, step = side / size;
    const svg = element("svg", { viewBox: `0 0 ${edge + side + 2} ${side + foot}`, role: "img", "aria-label": alt });
    for (let i = 0; i < size; i++) {
      for (let j = 0; j < size; j++) {
        const { colour, text, hint } = fill(i, j);
        const box = element("rect", { x: edge + j * step, y: i * step, width: Math.max(step - 1, step * .9),
          height: Math.max(step - 1, step * .9), fill: `rgb(${colour.map(Math.round)})` }, element("title", {}, hint));
        svg.append(box);
        if (counted && text) svg.append(element("text", { x: edge + (j + .5) * step - .5, y: (i + .5) * step + 3.5,
          "text-anchor": "middle", "font-size": text.length > 4 ? 9 : 10.5,
          fill: light(colour) > .22 ? "#10161c" : "#ffffff", "aria-hidden": "true" }, text));
      }
      if (!named) continue;
      svg.append(element("text", { x: edge - 6, y: (i + .5) * step + 4, "text-anchor": "end", class: "axis" }, classes[i]));
      const x = edge + (i + .5) * step, y = side + 14;
      svg.append(element("text", slant
        ? { x, y: side + 9, "text-anchor": "end", class: "axis", transform: `rotate(-40 ${x} ${side + 9})` }
        : { x, y, "text-anchor": "middle", class: "axis" }, classes[i]));
    }
    const figure = document.createElement("figure"), caption = document.createElement("figcaption");
    caption.append(...title);
    figure.append(caption, svg);
    return figure;
  }

  const bold = text => Object.assign(document.createElement("b"), { textContent: text });
  const swatch = colour => {
    const made = document.createElement("i");
    made.className = "swatch";
    made.style.background = colour;
    return made;
  };

  function draw(paper) {
    const ground = rgb(paper ?? getComputedStyle(document.documentElement).getPropertyValue("--paper").trim());
    const pair = [first, second].map(choice => choice.selectedIndex);
    const [a, b] = pair.map(index => models[index]);
    const tones = a.colour === b.colour ? ["#0072b2", "#d55e00"] : [a.colour, b.colour];
    const cells = [];
    classes.forEach((_, i) => classes.forEach((_, j) => cells.push([i, j, shares[pair[0]][i][j] - shares[pair[1]][i][j]])));
    const largest = Math.max(...cells.map(([, , gap]) => Math.abs(gap))) || 1;
    const each = [a, b].map(({ name, counts }, which) => matrix(
      [swatch(tones[which]), bold(name), ": % of the actual class"], `Confusion matrix of ${name}, rows actual, columns predicted classes`, ground,
      (i, j) => {
        const share = shares[pair[which]][i][j];
        return { colour: mix(ground, rgb(tones[which]), share), text: counts[i][j] ? percent(share) : "",
          hint: `${classes[i]} taken for ${classes[j]}: ${counts[i][j]} (${percent(share)}%)` };
      }));
    const gaps = matrix([bold("Difference"), ", in points: more with ", swatch(tones[0]), a.name, " or with ", swatch(tones[1]), b.name],
      `Difference of the confusion matrices of ${a.name} and ${b.name}; the largest differences are listed below`, ground,
      (i, j) => {
        const gap = shares[pair[0]][i][j] - shares[pair[1]][i][j];
        return { colour: mix(ground, rgb(tones[gap > 0 ? 0 : 1]), .92 * Math.abs(gap) / largest),
          text: Math.abs(gap) >= .0005 ? points(gap) : "", hint: `${classes[i]} taken for ${classes[j]}: ${points(gap)} points` };
      });
    compared.replaceChildren(...each, gaps);

    const list = document.createElement("ul");
    const told_of = cells.filter(([i, j, gap]) => i !== j && gap).sort((x, y) => Math.abs(y[2]) - Math.abs(x[2])).slice(0, 5);
    for (const [i, j, gap] of told_of) {
      const line = document.createElement("li");
      line.append(bold(`${classes[i]} taken for ${classes[j]}`),
        `: ${a.name} ${percent(shares[pair[0]][i][j])}%, ${b.name} ${percent(shares[pair[1]][i][j])}% (${points(gap)} points)`);
      list.append(line);
    }
    told.replaceChildren(pair[0] === pair[1] ? "One model beside itself: choose two." :
      told_of.length ? "Mistakes that differ most:" : "Both make the same mistakes.", list);
  }

  document.getElementById("picker").hidden = false;
  for (const choice of [first, second]) choice.addEventListener("change", () => draw());
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => draw());
  matchMedia("print").addEventListener("change", event => draw(event.matches ? "#ffffff" : undefined));
  draw();
}
