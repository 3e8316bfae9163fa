"use strict";
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const $ = (id) => document.getElementById(id);
  const HEARD = 0.95; // share of a sound that was played when it ends
  let state = null; // {rater, at, answers: {page id: {seconds, skipped, sounds: {name: {score, complete, moved}}}}}
  let pages = []; // of this rater, in order: {id, question, item, text, names}
  let playing = null; // {audio, stop}
  let since = 0; // when the clock of the page was last read

  // ---- a rater's own order: drawn from the test and the name, so that it is the same after a break

  function randomOf(seed) {
    let h = 2166136261;
    for (const byte of new TextEncoder().encode(seed)) h = Math.imul(h ^ byte, 16777619);
    h = h >>> 0 || 1;
    return () => {
      h ^= h << 13; h >>>= 0;
      h ^= h >>> 17;
      h ^= h << 5; h >>>= 0;
      return h / 4294967296;
    };
  }

  function shuffled(list, random) {
    const copy = list.slice();
    for (let i = copy.length - 1; i > 0; i--) {
      const j = Math.floor(random() * (i + 1));
      [copy[i], copy[j]] = [copy[j], copy[i]];
    }
    return copy;
  }

  function orderFor(rater) {
    const random = randomOf(data.test + "/" + rater);
    for (let i = 0; i < 16; i++) random(); // near seeds part ways
    return data.questions.flatMap((question) => shuffled(data.items, random).map((item) => ({
      id: question + "-" + item.item, question, item: item.item, text: item.text,
      names: shuffled(item.pages[question], random),
    })));
  }

  // ---- what the browser keeps

  const keyOf = (rater) => "audiogen-listening/" + data.test + "/" + rater;

  function load(rater) {
    try {
      const kept = JSON.parse(localStorage.getItem(keyOf(rater)));
      if (kept && kept.answers) return kept;
    } catch (error) { /* no storage, or not ours */ }
    return { rater, at: 0, answers: {} };
  }

  function keep() {
    try {
      localStorage.setItem(keyOf(state.rater), JSON.stringify(state));
      return true;
    } catch (error) {
      return false;
    }
  }

  function answerOf(page) {
    const answers = state.answers;
    if (!answers[page.id]) answers[page.id] = { seconds: 0, skipped: false, sounds: {} };
    for (const name of page.names) {
      if (!answers[page.id].sounds[name]) answers[page.id].sounds[name] = { score: null, complete: false, moved: false };
    }
    return answers[page.id];
  }

  function finished(page) {
    const answer = state.answers[page.id];
    return Boolean(answer) && !answer.skipped
      && page.names.every((name) => answer.sounds[name] && answer.sounds[name].complete && answer.sounds[name].score !== null);
  }

  function tick() {
    const now = performance.now();
    if (since && !$("page").hidden && !document.hidden) answerOf(pages[state.at]).seconds += (now - since) / 1000;
    since = now;
  }

  // ---- sounds: no seeking, so that a sound which ends was heard

  function coverage(audio) {
    let seconds = 0;
    for (let i = 0; i < audio.played.length; i++) seconds += audio.played.end(i) - audio.played.start(i);
    return audio.duration ? seconds / audio.duration : 0;
  }

  function stop() {
    const last = playing;
    playing = null;
    if (last) last.stop();
  }

  function play(audio, onStop) {
    stop();
    audio.currentTime = 0;
    const mine = { audio, stop: () => { audio.pause(); onStop(); } };
    playing = mine;
    audio.play().catch(() => { if (playing === mine) stop(); });
  }

  function soundOf(name) {
    const audio = new Audio(data.sounds[name]);
    audio.preload = "auto";
    return audio;
  }

  // ---- views

  function show(id) {
    stop();
    for (const view of document.querySelectorAll(".view")) view.hidden = view.id !== id;
    $("bar").hidden = id === "welcome";
    document.querySelector("#" + id + " h1").focus();
    window.scrollTo(0, 0);
  }

  function showPage() {
    if (state.at >= pages.length) { showDone(); return; }
    const page = pages[state.at], task = data.tasks[page.question], answer = answerOf(page);
    answer.skipped = false;
    $("kind").textContent = task.title;
    $("question").textContent = task.question;
    $("hint").textContent = task.hint;
    $("text").hidden = !task.text;
    $("text").textContent = task.text ? page.text : "";
    $("missing").textContent = "";
    $("skip").hidden = true;
    $("back").disabled = state.at === 0;
    $("next").textContent = state.at === pages.length - 1 ? "Finish" : "Next";
    $("where").textContent = "Page " + (state.at + 1) + " of " + pages.length;
    $("who").textContent = state.rater;
    $("progress").value = state.at / pages.length;
    $("sounds").replaceChildren(...page.names.map((name, index) => soundCard(answer.sounds[name], name, index + 1)));
    show("page");
    since = performance.now();
    keep();
  }

  function soundCard(mark, name, number) {
    const card = $("sound").content.cloneNode(true).firstElementChild;
    const title = card.querySelector("h2"), button = card.querySelector(".play"), slider = card.querySelector("input");
    const bar = card.querySelector("progress"), heard = card.querySelector(".heard"), output = card.querySelector("output");
    title.textContent = "Sound " + number;
    bar.setAttribute("aria-label", "Played of sound " + number);
    slider.setAttribute("aria-label", "Rating of sound " + number + ", 1 to 100");
    card.dataset.name = name;
    const audio = soundOf(name);
    const draw = () => {
      const on = playing && playing.audio === audio;
      button.textContent = on ? "■ Stop" : "▶ Play";
      button.setAttribute("aria-label", (on ? "Stop" : "Play") + " sound " + number);
      heard.textContent = mark.complete ? "✓ heard" : "not heard";
      heard.classList.toggle("yes", mark.complete);
      card.classList.toggle("unrated", mark.score === null);
      output.textContent = mark.score === null ? "–" : mark.score;
      slider.setAttribute("aria-valuetext", mark.score === null ? "not rated" : String(mark.score));
      if (mark.complete && mark.score !== null) card.classList.remove("lacking");
    };
    if (mark.score !== null) slider.value = mark.score;
    button.addEventListener("click", () => {
      if (playing && playing.audio === audio) stop();
      else play(audio, () => { bar.value = 0; draw(); });
      draw();
    });
    audio.addEventListener("timeupdate", () => { bar.value = audio.duration ? audio.currentTime / audio.duration : 0; });
    audio.addEventListener("ended", () => {
      if (coverage(audio) >= HEARD) mark.complete = true;
      stop();
      bar.value = 1;
      tick(); keep(); draw();
    });
    audio.addEventListener("error", () => {
      heard.textContent = "cannot play";
      $("missing").textContent = "A sound of this page cannot be played. Please tell the person who sent you this test.";
      $("skip").hidden = false;
    });
    const rate = () => {
      mark.score = Number(slider.value);
      mark.moved = true;
      tick(); keep(); draw();
    };
    slider.addEventListener("input", rate);
    slider.addEventListener("pointerup", rate); // a click where the slider stands is a rating, too
    slider.addEventListener("keydown", (event) => { if (event.key === "Enter" || event.key === " ") rate(); });
    draw();
    return card;
  }

  function lacking(page) {
    const answer = answerOf(page);
    return page.names.map((name, index) => {
      const mark = answer.sounds[name], faults = [];
      if (!mark.complete) faults.push("not heard to its end");
      if (mark.score === null) faults.push("not rated");
      return { name, text: faults.length ? "sound " + (index + 1) + " " + faults.join(" and ") : "" };
    }).filter((entry) => entry.text);
  }

  function next() {
    tick();
    const missing = lacking(pages[state.at]);
    for (const card of $("sounds").children) {
      card.classList.toggle("lacking", missing.some((entry) => entry.name === card.dataset.name));
    }
    if (missing.length) {
      $("missing").textContent = "Not yet: " + missing.map((entry) => entry.text).join("; ") + ".";
      document.querySelector(".lacking .play").focus();
      return;
    }
    state.at += 1;
    showPage();
  }

  function showDone() {
    const left = pages.filter((page) => !finished(page)).length;
    $("where").textContent = "All pages";
    $("who").textContent = state.rater;
    $("progress").value = 1;
    $("summary").textContent = left
      ? (pages.length - left) + " of " + pages.length + " pages are rated; " + left + " are not."
      : "All " + pages.length + " pages are rated.";
    $("csv").value = toCsv();
    keep();
    show("done");
  }

  // ---- ratings as CSV

  const cell = (value) => (/[",\r\n]/.test(String(value)) ? '"' + String(value).replace(/"/g, '""') + '"' : String(value));

  function toCsv() {
    const rows = [data.columns];
    for (const page of pages.filter(finished)) {
      const answer = state.answers[page.id];
      page.names.forEach((name, index) => {
        const mark = answer.sounds[name];
        const row = {
          test: data.test, rater: state.rater, item: page.item, question: page.question, stimulus: name, score: mark.score,
          seconds: answer.seconds.toFixed(1), complete: Number(mark.complete), moved: Number(mark.moved), position: index + 1,
        };
        rows.push(data.columns.map((column) => row[column]));
      });
    }
    return rows.map((row) => row.map(cell).join(",")).join("\r\n") + "\r\n";
  }

  function download() {
    const link = document.createElement("a");
    link.href = URL.createObjectURL(new Blob([toCsv()], { type: "text/csv" }));
    link.download = "ratings-" + data.test + "-" + state.rater.replace(/[^\p{L}\p{N}_-]+/gu, "_") + ".csv";
    document.body.append(link);
    link.click();
    link.remove();
    setTimeout(() => URL.revokeObjectURL(link.href), 10000);
  }

  // ---- what the rater does

  const check = soundOf(data.items[0].pages[data.questions[0]][0]);
  const drawCheck = () => { $("check").textContent = playing ? "■ Stop" : "▶ Play a sound to set the volume"; };
  check.addEventListener("ended", stop);
  $("check").addEventListener("click", () => {
    if (playing) stop(); else play(check, drawCheck);
    drawCheck();
  });
  $("rater").addEventListener("input", (event) => {
    // The first character keeps spreadsheets from reading a formula.
    const fine = /^[\p{L}\p{N}][\p{L}\p{N} ._@-]*$/u.test(event.target.value.trim());
    event.target.setCustomValidity(fine ? "" : "Please use letters and digits, a letter or digit first.");
  });
  $("start").addEventListener("submit", (event) => {
    event.preventDefault();
    const rater = $("rater").value.trim().normalize("NFC");
    state = load(rater);
    pages = orderFor(rater);
    showPage();
  });
  $("next").addEventListener("click", next);
  $("back").addEventListener("click", () => { tick(); if (state.at > 0) { state.at -= 1; showPage(); } });
  $("skip").addEventListener("click", () => { tick(); answerOf(pages[state.at]).skipped = true; state.at += 1; showPage(); });
  $("save").addEventListener("click", download);
  $("download").addEventListener("click", download);
  $("again").addEventListener("click", () => {
    const open = pages.findIndex((page) => !finished(page));
    state.at = open < 0 ? pages.length - 1 : open;
    showPage();
  });
  document.addEventListener("visibilitychange", () => {
    if (state && document.hidden) { stop(); keep(); }
    since = performance.now();
  });
  document.addEventListener("keydown", (event) => {
    if ($("page").hidden || event.ctrlKey || event.altKey || event.metaKey || !/^[1-9]$/.test(event.key)) return;
    const card = $("sounds").children[Number(event.key) - 1];
    if (card) { event.preventDefault(); card.querySelector(".play").click(); }
  });
  try {
    localStorage.setItem("audiogen-listening", "1");
    localStorage.removeItem("audiogen-listening");
  } catch (error) {
    $("storage").hidden = false;
  }
})();
