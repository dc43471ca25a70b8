"use strict";
// Names of classes and models are text: nothing here is ever read as HTML.
const at = (id) => document.getElementById(id);
let asked = 0;

function element(tag, text, className) {
  const made = document.createElement(tag);
  if (text !== undefined) made.textContent = text;
  if (className) made.className = className;
  return made;
}

function say(text, fault = false) {
  at("said").textContent = text;
  at("said").className = fault ? "fault" : "";
}

async function ask(file) {
  const mine = ++asked;
  say(`${file.name || "The image"}: the models look at it ...`);
  let found;
  try {
    const headers = { "Content-Type": "application/octet-stream" };
    const reply = await fetch("answers", { method: "POST", headers, body: file });
    found = await reply.json();
  } catch {
    found = { error: "no answer: has `versus page` ended, or is this a folder?" };
  }
  if (mine !== asked) return; // another image came meanwhile
  if (found.error) {
    at("answers").hidden = at("note").hidden = true;
    say(found.error, true);
    return;
  }
  const first = new Set(found.answers.map((each) => each.classes[0].class));
  say(first.size === 1 ? `${file.name || "The image"}: all say ${[...first][0]}.` : `${file.name || "The image"}: they disagree.`);
  show(found);
}

function show(found) {
  const image = at("image");
  image.querySelector("img").src = found.picture;
  image.querySelector("figcaption").textContent = found.size;
  at("models").replaceChildren(...found.answers.map(card));
  at("answers").hidden = at("note").hidden = false;
}

function card(answer) {
  const made = element("article");
  made.append(element("h2", answer.model), element("p", `validation macro-F1 ${answer.validation}`, "method"));
  if (answer.picture) {
    const picture = element("img");
    picture.src = answer.picture;
    picture.alt = `What ${answer.model} looks at`;
    made.append(picture);
  }
  made.append(element("p", answer.method, "method"));
  const list = element("ol");
  for (const each of answer.classes) {
    const row = element("li");
    const bar = element("meter");
    bar.value = each.probability;
    row.append(element("span", each.class), element("span", `${(100 * each.probability).toFixed(1)}%`), bar);
    list.append(row);
  }
  made.append(list);
  return made;
}

function given(data) {
  if (data.files.length > 1) say("One image at a time.", true);
  else if (data.files.length) ask(data.files[0]);
  else say("That is a link or text, not a file: save the image, and drop the file.", true);
}

for (const kind of ["dragover", "drop", "dragleave"]) {
  document.addEventListener(kind, (event) => {
    event.preventDefault(); // or the browser leaves the page for the file
    at("drop").classList.toggle("over", kind === "dragover");
    if (kind === "drop") given(event.dataTransfer);
  });
}
document.addEventListener("paste", (event) => given(event.clipboardData));
at("file").addEventListener("change", (event) => {
  if (event.target.files.length) ask(event.target.files[0]);
  event.target.value = "";
});
fetch("study").then((reply) => reply.json()).then(({ study, models }) => {
  at("study").textContent = `${study}: ${models.join(", ")}, of each model the replicate with the highest validation score`;
});
