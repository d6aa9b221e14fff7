"use strict";
// The gallery. Every text of the data becomes a text node: nothing in it is ever read as HTML.
(() => {
  const PAGE = 24;
  const SIGNS = { right: "\u2713", wrong: "\u2717", tie: "=" };
  const SAID = { right: "chosen, right", wrong: "chosen, wrong", tie: "tie" };
  const form = document.getElementById("filters");
  if (!form) return;
  const data = JSON.parse(document.getElementById("data").textContent);
  const list = document.getElementById("items");
  const more = document.getElementById("more");
  const state = { benchmark: "", kind: "", model: 0, outcome: "", shown: PAGE };

  const number = (value) => value.toLocaleString("en-US");
  const items = (count) => `${number(count)} ${count === 1 ? "item" : "items"}`;
  const words = (text) => text.replaceAll("_", " ");
  const slug = (text) => text.replaceAll(" ", "-");

  // An element with a class and contents: elements or texts; empty ones are left out.
  function make(tag, name, ...contents) {
    const element = document.createElement(tag);
    if (name) element.className = name;
    element.append(...contents.filter((part) => part !== "" && part !== null));
    return element;
  }

  const benchmark = () => data.benchmarks.find((each) => each.name === state.benchmark);

  // The outcome of an item for the model that the filters name.
  function change(verdicts, own) {
    if (benchmark().models.length === 1) return verdicts[0];
    const before = verdicts[0] === "right", after = verdicts[own] === "right";
    return after ? (before ? "both right" : "fixed") : before ? "broken" : "still wrong";
  }
  const position = () => benchmark().models.indexOf(state.model);

  // Number of items of the whole benchmark, not of the shown ones.
  function count({ model = state.model, kind = state.kind, outcome = state.outcome } = {}) {
    const counts = benchmark().counts[benchmark().compared.indexOf(model)];
    return counts.reduce(
      (sum, [ownKind, ownOutcome, n]) =>
        sum + ((!kind || kind === ownKind) && (!outcome || outcome === ownOutcome) ? n : 0), 0);
  }

  const kinds = () => [...new Set(benchmark().counts.flat().map(([kind]) => kind))].filter(Boolean);

  // Take the state from the address, as far as it makes sense there.
  function read() {
    const given = new URLSearchParams(location.hash.slice(1));
    const named = (name) => data.benchmarks.some((each) => each.name === name);
    state.benchmark = named(given.get("benchmark")) ? given.get("benchmark") : data.benchmarks[0].name;
    state.kind = kinds().includes(given.get("kind")) ? given.get("kind") : "";
    const model = data.models.indexOf(given.get("model"));
    state.model = benchmark().compared.includes(model) ? model : benchmark().compared[0];
    state.outcome = benchmark().outcomes.includes(given.get("outcome")) ? given.get("outcome") : "";
    state.shown = PAGE;
  }

  function write() {
    const given = new URLSearchParams({ benchmark: state.benchmark });
    if (state.kind) given.set("kind", state.kind);
    if (benchmark().compared.length > 1) given.set("model", data.models[state.model]);
    if (state.outcome) given.set("outcome", state.outcome);
    history.replaceState(null, "", `#${given}`);
  }

  function option(value, text) {
    const element = make("option", "", text);
    element.value = value;
    return element;
  }

  function fill(select, options, chosen) {
    select.replaceChildren(...options);
    select.value = chosen;
  }

  // One radio button per choice, made once; later only the counts change, so that the focus stays.
  function radios(fieldset, name, choices, chosen) {
    const key = JSON.stringify(choices.map(([value]) => value));
    if (fieldset.dataset.choices !== key) {
      fieldset.dataset.choices = key;
      fieldset.querySelectorAll("label").forEach((label) => label.remove());
      for (const [value, text, style] of choices) {
        const input = make("input");
        Object.assign(input, { type: "radio", name, value });
        fieldset.append(make("label", "", input, make("span", style, text), make("span", "count")));
      }
    }
    fieldset.querySelectorAll("label").forEach((label, k) => {
      label.querySelector("input").checked = choices[k][0] === String(chosen);
      label.querySelector(".count").textContent = number(choices[k][3]);
    });
  }

  function showFilters() {
    const current = benchmark();
    fill(form.elements.benchmark,
      data.benchmarks.map((each) => option(each.name, `${each.title} (${number(each.total)})`)), state.benchmark);
    const own = kinds();
    form.elements.kind.parentElement.hidden = own.length < 2;
    fill(form.elements.kind,
      ["", ...own].map((kind) => option(kind, `${kind ? words(kind) : "all kinds"} (${number(count({ kind }))})`)),
      state.kind);
    const models = document.getElementById("models");
    models.hidden = current.compared.length < 2;
    document.getElementById("first").textContent = data.models[current.models[0]];
    radios(models, "model",
      current.compared.map((k) => [String(k), data.models[k], `model m${k % 7}`, count({ model: k })]), state.model);
    radios(document.getElementById("outcomes"), "outcome",
      ["", ...current.outcomes].map((outcome) =>
        [outcome, outcome || "all", outcome && `key ${slug(outcome)}`, count({ outcome })]), state.outcome);
    form.hidden = false;
  }

  function picture(place, alt) {
    const image = data.images[place];
    if (image.error) return make("div", "media", make("p", "", `This image cannot be shown. ${image.error}.`));
    const element = make("img", image.drawn ? "drawn" : "");
    Object.assign(element, { src: image.address, width: image.width, height: image.height, alt, decoding: "async" });
    return make("div", "media", element);
  }

  function answers(option) {
    const shown = make("ul", "answers");
    option.answers.forEach((answer, k) => {
      if (!answer) return;
      const [score, mark] = answer, model = benchmark().models[k];
      const name = make("span", `model m${model % 7}`, data.models[model]);
      const sign = mark ? make("span", "", ` ${SIGNS[mark]}`, make("span", "unseen", ` ${SAID[mark]}`)) : "";
      shown.append(make("li", mark ? `chosen-${mark}` : "", name, score === null ? "" : ` ${score}`, sign));
    });
    return shown;
  }

  function choiceOf(option, alt) {
    const truth = make("span", "truth", option.true ? "true" : "false");
    const pieces = option.pieces.map(([text, differs]) => (differs ? make("mark", "", text) : text));
    return make("li", `option ${option.true}`,
      option.image === null ? "" : picture(option.image, `${alt}, the ${option.true ? "right" : "wrong"} image`),
      make("p", "", truth, ...pieces), answers(option));
  }

  function panel(each, alt) {
    const trueText = each.options.find((option) => option.true).pieces.map(([text]) => text).join("");
    const pair = each.options.some((option) => option.image !== null);
    return make("div", "panel",
      each.image === null ? "" : picture(each.image, trueText || alt),
      make("ul", `options${pair ? " pair" : ""}`, ...each.options.map((option) => choiceOf(option, alt))));
  }

  // What the head of a card says: the outcome, and every tie.
  function badges(item) {
    const outcome = change(item.verdicts, position());
    const ties = item.verdicts.flatMap((verdict, k) => (verdict === "tie" ? [data.models[benchmark().models[k]]] : []));
    const shown = [make("span", `badge ${slug(outcome)}`, outcome)];
    if (ties.length && outcome !== "tie") shown.push(make("span", "badge tie", `tie: ${ties.join(", ")}`));
    return shown;
  }

  function card(item) {
    const places = item.panels.flatMap((each) => [each.image, ...each.options.map((option) => option.image)]);
    const files = [...new Set(places.filter((place) => place !== null).map((place) => data.images[place].file))];
    const details = item.details.flatMap((detail, k) =>
      detail ? [`${data.models[benchmark().models[k]]}: ${detail}`] : []);
    const foot = [`item ${item.name}`, ...files.filter(Boolean), ...details].join(" \u00b7 ");
    return make("li", "item",
      make("div", "item-head", ...badges(item), item.kind && make("span", "", words(item.kind))),
      item.question && make("p", "question", item.question),
      ...item.panels.map((each) => panel(each, item.question || `item ${item.name}`)),
      make("p", "item-foot", foot));
  }

  function chosen() {
    const own = position();
    return benchmark().items.filter((item) =>
      (!state.kind || item.kind === state.kind) && (!state.outcome || change(item.verdicts, own) === state.outcome));
  }

  function showItems(keep = 0) {
    const found = chosen(), shown = Math.min(state.shown, found.length);
    if (!keep) list.replaceChildren();
    list.append(...found.slice(keep, shown).map(card));
    more.hidden = shown === found.length;
    more.textContent = `Show ${Math.min(PAGE, found.length - shown)} more`;
    const all = count(), { total, items: embedded } = benchmark();
    const part = found.length < all ? `, of which this page carries ${number(found.length)}` : "";
    document.getElementById("status").textContent =
      all ? `${items(all)} match${all === 1 ? "es" : ""}${part}; ${number(shown)} shown.` : "No item matches.";
    document.getElementById("sampled").textContent = embedded.length === total ? "" :
      `${number(embedded.length)} of ${items(total)} are on this page, chosen evenly over kinds and outcomes and ` +
      "otherwise at random, but the same every time. The counts on the filters are of all items.";
  }

  function show() {
    showFilters();
    showItems();
  }

  form.addEventListener("change", ({ target }) => {
    const { name, value } = target;
    const before = data.models[state.model];
    state[name] = name === "model" ? Number(value) : value;
    if (name === "benchmark") {
      // Kinds and models may be others there.
      state.kind = kinds().includes(state.kind) ? state.kind : "";
      const same = data.models.indexOf(before);
      state.model = benchmark().compared.includes(same) ? same : benchmark().compared[0];
      state.outcome = benchmark().outcomes.includes(state.outcome) ? state.outcome : "";
    }
    state.shown = PAGE;
    write();
    show();
  });
  form.addEventListener("submit", (event) => event.preventDefault());
  more.addEventListener("click", () => {
    const keep = list.children.length;
    state.shown += PAGE;
    showItems(keep);
    const first = list.children[keep];
    first.tabIndex = -1;
    first.focus({ preventScroll: true });
  });
  window.addEventListener("hashchange", () => {
    if (!location.hash.includes("=")) return; // a link to a section
    read();
    show();
  });
  read();
  show();
})();
