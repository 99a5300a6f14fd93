// The tree viewer: one canvas, drawn from plain data. Text of programs reaches the page as canvas text or textContent
// only, so it is never parsed as markup.
"use strict";
(() => {
  const DATA = JSON.parse(document.getElementById("data").textContent);
  const $ = (id) => document.getElementById(id);
  const canvas = $("tree"), ctx = canvas.getContext("2d"), map = $("map"), mapCtx = map.getContext("2d");
  const ROW = 26, CARD = 20, GAP = 48, FONT = 12, MAX_CHARS = 46, BINS = 8, MIN_K = 0.02, MAX_K = 4, READABLE = 0.45, FIRST_ROWS = 60;
  const MONO = 'ui-monospace,SFMono-Regular,Menlo,Consolas,"DejaVu Sans Mono",monospace';
  const SANS = 'system-ui,-apple-system,"Segoe UI",Roboto,"Helvetica Neue",Arial,sans-serif';
  const view = { x: 0, y: 0, k: 1 };
  let tree, layout, colours, mapImage, charWidth = 7.2, selected = 0, dirty = false, width = 0, height = 0, dpr = 1;
  const folded = new Set();

  // What a tree's columns say, per state: its children, its code, the completions that end there.
  function open(data) {
    const n = data.nodes.parent.length, children = Array.from({ length: n }, () => []), depth = new Int32Array(n);
    for (let i = 1; i < n; i++) {
      children[data.nodes.parent[i]].push(i);
      depth[i] = depth[data.nodes.parent[i]] + 1;
    }
    const chosen = new Set(data.path), ending = Array.from({ length: n }, () => []);
    data.draws.forEach((draw, i) => ending[draw[2]].push(i));
    const { visits, value, pruned } = data.nodes;
    for (const list of children)
      list.sort((a, b) => chosen.has(b) - chosen.has(a) || visits[b] - visits[a] || value[b] - value[a] || a - b);
    const cut = new Uint8Array(n), verdict = new Int8Array(n), passing = new Int32Array(n), programs = new Int32Array(n);
    for (let i = 0; i < n; i++) cut[i] = pruned[i] || (i > 0 && cut[data.nodes.parent[i]]) ? 1 : 0;
    for (let i = n - 1; i >= 0; i--) {
      for (const d of ending[i]) {
        const grade = data.draws[d][7];
        programs[i] += data.draws[d][3] ? 1 : 0;
        if (grade !== null && data.grades[grade][1]) passing[i]++;
        if (data.nodes.terminal[i] && grade !== null) verdict[i] = data.grades[grade][1] ? 1 : -1;
      }
      if (i > 0) {
        passing[data.nodes.parent[i]] += passing[i];
        programs[data.nodes.parent[i]] += programs[i];
      }
    }
    let low = Infinity, high = -Infinity;
    for (let i = 0; i < n; i++)
      if (visits[i] > 0) { low = Math.min(low, value[i]); high = Math.max(high, value[i]); }
    if (!(low < high)) { low = Math.min(low, 0); high = Math.max(high, low + 1); }
    if (!Number.isFinite(low)) { low = 0; high = 1; }
    const valued = data.draws.some((draw) => draw[4] !== null) || value.some((v) => v !== 0);
    return { data, n, children, depth, chosen, ending, cut, verdict, passing, programs, low, high, valued };
  }

  function codeOf(i) {
    const chain = [];
    for (let j = i; j !== null; j = tree.data.nodes.parent[j]) chain.push(j);
    let before = "", code = "";
    for (const j of chain.reverse()) {
      const trim = tree.data.nodes.trim[j];
      before = trim ? code.slice(0, code.length - trim) : code;
      code = before + tree.data.nodes.action[j];
    }
    return { before, own: tree.data.nodes.action[i], code };
  }

  const printable = (text) => text.replace(/[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u2028\u2029\u202a-\u202e\u2066-\u2069]/g, "\ufffd");

  // The last line that says something, without the indentation that all lines share.
  function label(i) {
    if (i === 0 && !tree.data.nodes.action[0].trim()) return "start";
    const lines = tree.data.nodes.action[i].replace(/\t/g, "    ").split("\n").filter((line) => line.trim());
    let line = lines.length ? lines[lines.length - 1] : "(blank)";
    line = line.replace(/^ {1,4}/, "").trimEnd();
    if (lines.length > 1) line = "⋯ " + line;
    line = printable(line);
    const chars = Array.from(line);
    return chars.length > MAX_CHARS ? chars.slice(0, MAX_CHARS - 1).join("") + "…" : line;
  }

  const number = (value, digits = 3) => (value === null || value === undefined ? "–" : value.toFixed(digits));
  const meta = (i) => (tree.valued && tree.data.nodes.visits[i] ? number(tree.data.nodes.value[i], 2) + "  " : "") + "×" + tree.data.nodes.visits[i];

  function matches() {
    const { nodes } = tree.data, text = $("text").value.toLowerCase(), visits = Number($("visits").value) || 0;
    const least = $("value").value === "" ? -Infinity : Number($("value").value);
    const terminal = $("terminal").checked, unpruned = $("pruned").checked, passing = $("passing").checked;
    const active = Boolean(text || visits > 0 || least > -Infinity || terminal || passing);
    const hit = new Uint8Array(tree.n), shown = new Uint8Array(tree.n);
    let count = 0;
    for (let i = tree.n - 1; i >= 0; i--) {
      if (unpruned && tree.cut[i]) continue;
      hit[i] =
        (!text || nodes.action[i].toLowerCase().includes(text)) && nodes.visits[i] >= visits &&
        (least === -Infinity || (nodes.visits[i] > 0 && nodes.value[i] >= least)) &&
        (!terminal || nodes.terminal[i]) && (!passing || tree.passing[i] > 0) ? 1 : 0;
      count += hit[i];
      if (hit[i]) shown[i] = 1;
      if (shown[i] && i > 0) shown[nodes.parent[i]] = 1;
    }
    return { hit, shown, count, active };
  }

  // A first child stands beside its parent, so that the main line reads from left to right like a program; the others
  // go below, as high up as their line of first children finds room. The order at every depth is that of the tree, so
  // that no two edges cross.
  function arrange() {
    const found = matches(), row = new Int32Array(tree.n).fill(-1), last = new Int32Array(tree.n).fill(-1);
    const rows = [], free = [], labels = new Array(tree.n), columns = [], hidden = new Int32Array(tree.n);
    // How many shown states a folded state hides; a filter looks into all of them.
    const below = new Int32Array(tree.n);
    for (let i = tree.n - 1; i > 0; i--) if (found.shown[i]) below[tree.data.nodes.parent[i]] += below[i] + 1;
    const stack = found.shown[0] ? [[0, -1]] : [];
    while (stack.length) {
      const [i, beside] = stack.pop();
      const kids = folded.has(i) && !found.active ? [] : tree.children[i].filter((child) => found.shown[child]);
      row[i] = beside;
      if (beside < 0)
        for (let j = i; j !== undefined; j = folded.has(j) && !found.active ? undefined : tree.children[j].find((child) => found.shown[child]))
          row[i] = Math.max(row[i], free[tree.depth[j]] || 0);
      free[tree.depth[i]] = row[i] + 1;
      while (rows.length <= row[i]) rows.push([]);
      rows[row[i]].push(i);
      labels[i] = label(i);
      const chars = Math.max(6, Array.from(labels[i]).length + 2 + meta(i).length);
      columns[tree.depth[i]] = Math.max(columns[tree.depth[i]] || 0, chars * charWidth + 34);
      if (folded.has(i) && !found.active) hidden[i] = below[i];
      for (let j = kids.length - 1; j >= 0; j--) stack.push([kids[j], j === 0 ? row[i] : -1]);
      if (kids.length) last[i] = kids[kids.length - 1];
    }
    const left = [24];
    for (let d = 0; d < columns.length; d++) left.push(left[d] + columns[d] + GAP);
    rows.forEach((list) => list.sort((a, b) => tree.depth[a] - tree.depth[b]));
    layout = { ...found, row, last, rows, labels, left, columns, hidden, w: left[left.length - 1], h: Math.max(1, rows.length) * ROW };
    $("stage").classList.toggle("mapped", layout.h * 0.8 > $("stage").clientHeight || layout.w * 0.8 > $("stage").clientWidth);
    measure();
    paintMap();
    summarise();
    redraw();
  }

  // A large tree opens at its most visited states and along the chosen path.
  function foldRest() {
    folded.clear();
    for (let i = 0; i < tree.n; i++) if (tree.children[i].length && !tree.chosen.has(i)) folded.add(i);
    let rows = 1;
    const open = [];
    const unfold = (i) => {
      folded.delete(i);
      rows += Math.max(0, tree.children[i].length - 1);
      open.push(...tree.children[i].filter((child) => folded.has(child)));
    };
    for (const i of tree.chosen) unfold(i);
    if (!tree.chosen.size) unfold(0);
    while (open.length && rows < FIRST_ROWS) {
      let best = 0;
      for (let j = 1; j < open.length; j++) if (tree.data.nodes.visits[open[j]] > tree.data.nodes.visits[open[best]]) best = j;
      const [i] = open.splice(best, 1);
      if (folded.has(i)) unfold(i);
    }
  }

  function unfoldAll() { folded.clear(); arrange(); reveal(selected); }

  const boxOf = (i) => ({ x: layout.left[tree.depth[i]], y: layout.row[i] * ROW + (ROW - CARD) / 2, w: layout.columns[tree.depth[i]] });

  function summarise() {
    const programs = tree.data.draws.filter((draw) => draw[3]).length, graded = tree.data.grades.length > 0;
    const words = [`${tree.n.toLocaleString("en")} states`, `${tree.data.draws.length} completions`, `${programs} programs`];
    if (graded) words.push(`${tree.passing[0]} pass`);
    if (layout.active || $("pruned").checked) words.unshift(`${layout.count.toLocaleString("en")} match of`);
    $("summary").textContent = words.join(" · ").replace(" of · ", " of ");
    $("all").textContent = folded.size ? "unfold all" : "fold";
    $("empty").hidden = layout.rows.length > 0;
  }

  function theme() {
    const style = getComputedStyle(document.documentElement);
    colours = {};
    for (const name of ["page", "surface", "ink", "muted", "line", "grey", "blue", "orange", "green", "purple"])
      colours[name] = style.getPropertyValue("--" + name).trim();
    const rgb = (hex) => [1, 3, 5].map((i) => parseInt(hex.slice(i, i + 2), 16));
    const from = rgb(colours.surface), to = rgb(colours.blue);
    colours.ramp = Array.from({ length: BINS }, (_, i) => {
      const t = 0.03 + (0.5 * i) / (BINS - 1);
      return "rgb(" + from.map((v, c) => Math.round(v + (to[c] - v) * t)).join() + ")";
    });
    // Seen from afar a bar is all there is, so that it takes more colour.
    colours.far = Array.from({ length: BINS }, (_, i) => {
      const t = 0.22 + (0.78 * i) / (BINS - 1);
      return "rgb(" + from.map((v, c) => Math.round(v + (to[c] - v) * t)).join() + ")";
    });
    $("ramp").style.background = `linear-gradient(90deg,${colours.far.join()})`;
  }

  function bin(i) {
    if (!tree.valued || !tree.data.nodes.visits[i]) return 0;
    const t = (tree.data.nodes.value[i] - tree.low) / (tree.high - tree.low);
    return Math.max(0, Math.min(BINS - 1, Math.floor(t * BINS)));
  }

  function redraw() {
    if (dirty) return;
    dirty = true;
    requestAnimationFrame(() => { dirty = false; draw(); });
  }

  function draw() {
    const { k } = view;
    ctx.setTransform(dpr, 0, 0, dpr, 0, 0);
    ctx.fillStyle = colours.page;
    ctx.fillRect(0, 0, width, height);
    ctx.setTransform(dpr * k, 0, 0, dpr * k, -view.x * k * dpr, -view.y * k * dpr);
    const top = Math.max(0, Math.floor(view.y / ROW) - 1);
    const bottom = Math.min(layout.rows.length - 1, Math.ceil((view.y + height / k) / ROW) + 1);
    const right = view.x + width / k;
    const near = [];
    for (let r = top; r <= bottom; r++)
      for (const i of layout.rows[r]) {
        const x = layout.left[tree.depth[i]];
        if (x <= right && x + layout.columns[tree.depth[i]] >= view.x) near.push(i);
      }
    drawEdges(top, bottom, right);
    if (k < READABLE) drawFar(near); else drawNear(near);
    drawMapFrame();
    ctx.setTransform(dpr, 0, 0, dpr, 0, 0);
    last = { drawn: near.length };
  }
  let last = { drawn: 0 };

  function edge(i) {
    const p = tree.data.nodes.parent[i], x = layout.left[tree.depth[i]], y = layout.row[i] * ROW + ROW / 2;
    const py = layout.row[p] * ROW + ROW / 2, px = layout.left[tree.depth[p]] + layout.columns[tree.depth[p]];
    ctx.moveTo(px, py);
    if (y === py) ctx.lineTo(x, y); else ctx.bezierCurveTo(px + GAP * 0.6, py, x - GAP * 0.6, y, x, y);
  }

  function drawEdges(top, bottom, right) {
    const kinds = [[], [], [], [], []], total = Math.max(1, tree.data.nodes.visits[0]);
    for (let r = 0; r <= bottom; r++)
      for (const p of layout.rows[r]) {
        const end = layout.last[p];
        if (end < 0 || layout.row[end] < top || layout.left[tree.depth[p]] > right) continue;
        if (layout.left[tree.depth[p] + 1] + 40 < view.x) continue;
        for (const i of tree.children[p]) {
          if (layout.row[i] < 0 || (layout.row[i] < top && r < top)) continue;
          if (r > bottom) break;
          const share = tree.data.nodes.visits[i] / total;
          kinds[tree.chosen.has(i) ? 4 : tree.cut[i] ? 3 : share > 0.2 ? 2 : share > 0.04 ? 1 : 0].push(i);
        }
      }
    const least = 0.6 / view.k;
    [1, 1.8, 3, 1, 3].forEach((line, kind) => {
      if (!kinds[kind].length) return;
      ctx.beginPath();
      for (const i of kinds[kind]) edge(i);
      ctx.lineWidth = Math.max(line, kind === 4 ? 2 * least : least);
      ctx.strokeStyle = kind === 4 ? colours.purple : kind === 3 ? colours.line : colours.grey;
      ctx.globalAlpha = kind === 4 || kind === 3 ? 1 : 0.65;
      ctx.setLineDash(kind === 3 && view.k > 0.2 ? [4, 4] : []);
      ctx.stroke();
    });
    ctx.setLineDash([]);
    ctx.globalAlpha = 1;
  }

  function outline(i, colour, line, pad = 0) {
    const box = boxOf(i);
    ctx.strokeStyle = colour;
    ctx.lineWidth = line;
    ctx.beginPath();
    ctx.roundRect(box.x - pad, box.y - pad, box.w + 2 * pad, CARD + 2 * pad, 5 + pad);
    ctx.stroke();
  }

  function drawFar(near) {
    const groups = Array.from({ length: BINS + 3 }, () => []);
    for (const i of near) {
      const kind = tree.verdict[i] > 0 ? BINS : tree.verdict[i] < 0 ? BINS + 1 : tree.chosen.has(i) ? BINS + 2 : bin(i);
      groups[kind].push(i);
    }
    const tall = Math.max(CARD, Math.min(ROW, 1.2 / view.k));
    groups.forEach((list, kind) => {
      if (!list.length) return;
      ctx.fillStyle = kind < BINS ? colours.far[kind] : [colours.green, colours.orange, colours.purple][kind - BINS];
      for (const faded of [0, 1]) {
        ctx.globalAlpha = faded ? 0.25 : 1;
        ctx.beginPath();
        for (const i of list) {
          if (Number(tree.cut[i] || !layout.hit[i]) !== faded) continue;
          const box = boxOf(i);
          ctx.rect(box.x, box.y, box.w, tall);
        }
        ctx.fill();
      }
    });
    ctx.globalAlpha = 1;
    if (layout.row[selected] >= 0) outline(selected, colours.ink, 2 / view.k, 3 / view.k);
  }

  function drawNear(near) {
    const groups = Array.from({ length: BINS }, () => []);
    for (const i of near) groups[bin(i)].push(i);
    groups.forEach((list, b) => {
      if (!list.length) return;
      ctx.beginPath();
      for (const i of list) { const box = boxOf(i); ctx.roundRect(box.x, box.y, box.w, CARD, 5); }
      ctx.fillStyle = colours.ramp[b];
      ctx.fill();
      ctx.lineWidth = 1;
      ctx.strokeStyle = colours.line;
      ctx.stroke();
    });
    ctx.textBaseline = "middle";
    for (const i of near) {
      const box = boxOf(i), y = box.y + CARD / 2 + 0.5, right = box.x + box.w - 8, faded = tree.cut[i] || !layout.hit[i];
      ctx.globalAlpha = faded ? 0.45 : 1;
      let x = box.x + 8;
      if (tree.data.nodes.terminal[i]) {
        const verdict = tree.verdict[i];
        ctx.font = `700 ${FONT + 1}px ${SANS}`;
        ctx.fillStyle = verdict > 0 ? colours.green : verdict < 0 ? colours.orange : colours.muted;
        ctx.fillText(verdict > 0 ? "✓" : verdict < 0 ? "✗" : "■", x, y);
        x += 16;
      }
      const numbers = meta(i);
      ctx.font = `${FONT}px ${MONO}`;
      ctx.fillStyle = i === 0 ? colours.muted : colours.ink;
      ctx.fillText(layout.labels[i], x, y, right - x - numbers.length * charWidth - 6);
      ctx.fillStyle = colours.muted;
      ctx.textAlign = "right";
      ctx.fillText(numbers, right, y);
      ctx.textAlign = "left";
      if (layout.hidden[i]) {
        ctx.fillStyle = colours.blue;
        ctx.fillText("+" + layout.hidden[i], box.x + box.w + 4, y);
      }
    }
    ctx.globalAlpha = 1;
    for (const i of near) if (tree.chosen.has(i)) outline(i, colours.purple, 1.6);
    if (layout.row[selected] >= 0) outline(selected, colours.ink, 2, 3);
  }

  // The overview squeezes the whole tree into a strip; it is painted once per layout.
  function paintMap() {
    const w = map.clientWidth || 76, h = map.clientHeight || 400;
    map.width = w * dpr; map.height = h * dpr;
    mapImage = document.createElement("canvas");
    mapImage.width = map.width; mapImage.height = map.height;
    const c = mapImage.getContext("2d");
    c.setTransform(dpr, 0, 0, dpr, 0, 0);
    const fx = (w - 8) / layout.w, fy = Math.min(ROW, (h - 8) / layout.h * ROW) / ROW;
    layout.map = { fx, fy };
    for (const list of layout.rows)
      for (const i of list) {
        const chosen = tree.chosen.has(i), verdict = tree.verdict[i];
        c.globalAlpha = chosen || layout.hit[i] && !tree.cut[i] ? 1 : 0.3;
        c.fillStyle = verdict > 0 ? colours.green : chosen ? colours.purple : verdict < 0 ? colours.orange : colours.far[bin(i)];
        c.fillRect(4 + layout.left[tree.depth[i]] * fx, 4 + layout.row[i] * ROW * fy, Math.max(1.5, layout.columns[tree.depth[i]] * fx), Math.max(chosen ? 2 : 0.8, CARD * fy));
      }
  }

  function drawMapFrame() {
    if (!$("stage").classList.contains("mapped")) return;
    mapCtx.setTransform(1, 0, 0, 1, 0, 0);
    mapCtx.clearRect(0, 0, map.width, map.height);
    mapCtx.drawImage(mapImage, 0, 0);
    mapCtx.setTransform(dpr, 0, 0, dpr, 0, 0);
    const { fx, fy } = layout.map;
    mapCtx.strokeStyle = colours.ink;
    mapCtx.lineWidth = 1.5;
    mapCtx.strokeRect(4 + Math.max(0, view.x) * fx, 4 + Math.max(0, view.y) * fy,
      Math.max(6, Math.min(layout.w, width / view.k) * fx - 1), Math.max(6, Math.min(layout.h, height / view.k) * fy));
  }

  function measure() {
    dpr = window.devicePixelRatio || 1;
    if (width === canvas.clientWidth && height === canvas.clientHeight && canvas.width === Math.round(width * dpr)) return false;
    width = canvas.clientWidth; height = canvas.clientHeight;
    canvas.width = Math.round(width * dpr); canvas.height = Math.round(height * dpr);
    return true;
  }

  function resize() { if (layout && measure()) { paintMap(); draw(); } }

  function bound() {
    view.k = Math.max(MIN_K, Math.min(MAX_K, view.k));
    const margin = 80 / view.k;
    view.x = Math.max(-width / view.k + margin, Math.min(layout.w - margin, view.x));
    view.y = Math.max(-height / view.k + margin, Math.min(layout.h - margin, view.y));
  }

  function zoom(factor, px = width / 2, py = height / 2) {
    const x = view.x + px / view.k, y = view.y + py / view.k;
    view.k = Math.max(MIN_K, Math.min(MAX_K, view.k * factor));
    view.x = x - px / view.k; view.y = y - py / view.k;
    bound();
    redraw();
  }

  function pan(dx, dy) { view.x -= dx / view.k; view.y -= dy / view.k; bound(); redraw(); }

  function fit() {
    view.k = Math.max(MIN_K, Math.min(1.2, (width - 32) / layout.w, (height - 40) / layout.h));
    view.x = -16 / view.k; view.y = -16 / view.k;
    redraw();
  }

  // At first: readable, with the start in view; the overview shows the rest.
  function home() {
    view.k = Math.max(0.8, Math.min(1.2, (width - 32) / layout.w));
    view.x = -8 / view.k; view.y = -16 / view.k;
    redraw();
  }

  function reveal(i) {
    if (layout.row[i] < 0) return;
    const box = boxOf(i), w = width / view.k, h = height / view.k, pad = 30 / view.k;
    if (view.k < READABLE) { view.k = 0.9; view.x = box.x - 200; view.y = box.y - height / view.k / 2; }
    else {
      if (box.x < view.x + pad) view.x = box.x - pad; else if (box.x + box.w > view.x + w - pad) view.x = box.x + box.w - w + pad;
      if (box.y < view.y + pad) view.y = box.y - pad; else if (box.y + CARD > view.y + h - pad) view.y = box.y + CARD - h + pad;
    }
    bound();
    redraw();
  }

  function unfoldTo(i) {
    for (let j = tree.data.nodes.parent[i]; j !== null; j = tree.data.nodes.parent[j]) folded.delete(j);
    arrange();
  }

  function select(i, show = true) {
    selected = i;
    if (layout.row[i] < 0) unfoldTo(i);
    details();
    if (show) reveal(i);
    redraw();
    history.replaceState(null, "", `#${$("problem").selectedIndex}/${i}`);
  }

  function node(tag, text = "", className = "") {
    const element = document.createElement(tag);
    if (className) element.className = className;
    if (text) element.textContent = printable(text);
    return element;
  }

  function lines(parent, text, className) {
    if (!text) return;
    const all = text.replace(/\n$/, "").split("\n");
    for (const line of all) parent.append(node("span", line || " ", className));
  }

  function gradeText(grade) {
    if (grade === null) return ["", "none"];
    const [reward, passed, verdicts] = tree.data.grades[grade];
    const good = verdicts.filter((verdict) => verdict === "pass").length;
    return [`${passed ? "✓" : "✗"} ${verdicts.length ? `${good} of ${verdicts.length} tests` : `reward ${number(reward)}`}`, passed ? "pass" : "fail"];
  }

  function details() {
    const { nodes, draws } = tree.data, i = selected, panel = $("details");
    panel.replaceChildren();
    const title = node("h2", i === 0 ? "Start" : `State ${i}`);
    if (tree.chosen.has(i)) title.append(node("span", "chosen path", "tag chosen"));
    if (nodes.terminal[i]) title.append(node("span", "finished", "tag plain"));
    if (tree.cut[i]) title.append(node("span", nodes.pruned[i] ? "pruned" : "below a pruned state", "tag plain"));
    panel.append(title);
    const facts = node("dl");
    const fact = (name, value) => facts.append(node("dt", name), node("dd", value));
    if (tree.valued) fact("value", nodes.visits[i] ? number(nodes.value[i], 4) : "–");
    fact("visits", `${nodes.visits[i]} of ${nodes.visits[0]}`);
    if (nodes.scored[i] !== null) fact("value model", number(nodes.scored[i], 4));
    if (nodes.prior[i] !== null) fact("prior of the line", number(nodes.prior[i], 4));
    fact("sampled here", String(nodes.draws[i]));
    fact("programs below", tree.data.grades.length ? `${tree.programs[i]}, ${tree.passing[i]} pass` : String(tree.programs[i]));
    fact("depth", String(tree.depth[i]));
    panel.append(facts);
    if (i === 0) settings(panel);
    if (i === 0 && tree.data.statement) panel.append(node("h3", "Problem"), node("p", tree.data.statement));
    panel.append(node("h3", "Program so far"));
    const program = node("pre"), code = codeOf(i);
    program.tabIndex = 0;
    lines(program, tree.data.initial_state, "given");
    lines(program, code.before, "");
    lines(program, code.own, "own");
    panel.append(program);
    const first = tree.ending[i].find((d) => draws[d][7] !== null);
    if (nodes.terminal[i] && first !== undefined) tests(panel, draws[first][7]);
    completions(panel, i);
    $("said").textContent = `${i === 0 ? "start" : "state " + i}: ${layout && layout.labels[i] ? layout.labels[i] : label(i)}, value ${number(nodes.value[i])}, ${nodes.visits[i]} visits`;
  }

  function settings(panel) {
    const found = Object.entries(tree.data.config);
    if (!found.length) return;
    const box = node("details"), list = node("dl");
    box.append(node("summary", "Settings of the search"));
    for (const [name, value] of found) list.append(node("dt", name), node("dd", String(value)));
    box.append(list);
    panel.append(box);
  }

  function tests(panel, grade) {
    const [reward, passed, verdicts] = tree.data.grades[grade];
    panel.append(node("h3", `Tests: ${gradeText(grade)[0]}, reward ${number(reward)}`));
    const list = node("div", "", "tests");
    const order = verdicts.map((_, index) => index).sort((a, b) => (verdicts[a] === "pass") - (verdicts[b] === "pass") || a - b);
    for (const index of order.slice(0, 300))
      list.append(node("span", `${tree.data.tests[index] ?? index}: ${verdicts[index]}`, verdicts[index] === "pass" ? "pass" : "fail"));
    panel.append(list);
  }

  function completions(panel, i) {
    const { draws } = tree.data, own = tree.ending[i];
    if (!own.length) return;
    panel.append(node("h3", own.length === 1 ? "Completion that ends here" : `${own.length} completions that end here`));
    if (!tree.data.nodes.terminal[i]) panel.append(node("p", "Their other lines are no states of the tree yet.", "note"));
    const list = node("ul");
    for (const d of own.slice(0, 100)) {
      const [index, , , finished, score, tokens, text, grade] = draws[d], item = node("li");
      const words = [`#${index + 1}`, finished ? `score ${number(score)}` : "cut off"];
      if (tokens) words.push(`${tokens} tokens`);
      if (index === tree.data.answer) words.push("the answer");
      const [verdict, kind] = gradeText(grade);
      item.append(node("span", words.join(" · ") + "  "), node("b", verdict, kind));
      if (text) {
        const rest = node("pre");
        lines(rest, text, "rest");
        item.append(rest);
      }
      list.append(item);
    }
    panel.append(list);
    if (own.length > 100) panel.append(node("p", `and ${own.length - 100} more`, "note"));
  }

  function choose(index, start = null) {
    tree = open(DATA.trees[index]);
    foldRest();
    $("problem").selectedIndex = index;
    const low = tree.valued ? number(tree.low, 2) : "", high = tree.valued ? number(tree.high, 2) : "";
    $("low").textContent = low; $("high").textContent = high;
    $("scale").hidden = !tree.valued;
    selected = start !== null && start < tree.n ? start : 0;
    arrange();
    home();
    select(selected, start !== null);
    draw();
  }

  function step(key) {
    const { parent } = tree.data.nodes, shown = (i) => layout.row[i] >= 0;
    if (key === "ArrowLeft" && selected !== 0) select(parent[selected]);
    if (key === "ArrowRight") { const child = tree.children[selected].find(shown); if (child !== undefined) select(child); }
    if (key === "ArrowDown" || key === "ArrowUp") {
      const way = key === "ArrowDown" ? 1 : -1, depth = tree.depth[selected];
      for (let r = layout.row[selected] + way; r >= 0 && r < layout.rows.length; r += way) {
        const there = layout.rows[r].find((i) => tree.depth[i] === depth) ?? -1;
        if (there >= 0) { select(there); return; }
      }
    }
  }

  function fold(i) {
    if (!tree.children[i].length) return;
    if (folded.has(i)) folded.delete(i); else folded.add(i);
    arrange();
    if (layout.row[selected] < 0) select(i);
  }

  // The state at a point, or with `marker` the folded state whose count of hidden states is there.
  function nodeAt(px, py, marker = false) {
    const x = view.x + px / view.k, y = view.y + py / view.k, list = layout.rows[Math.floor(y / ROW)];
    if (!list) return -1;
    return list.find((i) => {
      const box = boxOf(i), start = marker ? box.x + box.w : box.x - 2, end = box.x + box.w + (marker ? GAP : 0);
      return (!marker || layout.hidden[i]) && x >= start && x <= end;
    }) ?? -1;
  }

  function pointers() {
    const down = new Map();
    let moved = 0, pinch = 0;
    canvas.addEventListener("pointerdown", (event) => {
      canvas.setPointerCapture(event.pointerId);
      down.set(event.pointerId, [event.offsetX, event.offsetY]);
      moved = 0; pinch = 0;
      canvas.classList.add("moving");
    });
    canvas.addEventListener("pointermove", (event) => {
      const before = down.get(event.pointerId);
      if (!before) { canvas.style.cursor = Math.max(nodeAt(event.offsetX, event.offsetY), nodeAt(event.offsetX, event.offsetY, true)) >= 0 ? "pointer" : ""; return; }
      const at = [event.offsetX, event.offsetY];
      moved += Math.abs(at[0] - before[0]) + Math.abs(at[1] - before[1]);
      down.set(event.pointerId, at);
      if (down.size === 1) { if (moved > 3) pan(at[0] - before[0], at[1] - before[1]); return; }
      const [a, b] = [...down.values()], apart = Math.hypot(a[0] - b[0], a[1] - b[1]);
      if (pinch) zoom(apart / pinch, (a[0] + b[0]) / 2, (a[1] + b[1]) / 2);
      pinch = apart;
    });
    const up = (event) => {
      if (down.delete(event.pointerId) && moved <= 3 && event.type === "pointerup") {
        const i = nodeAt(event.offsetX, event.offsetY), mark = nodeAt(event.offsetX, event.offsetY, true);
        if (i >= 0) select(i, false); else if (mark >= 0) fold(mark);
      }
      pinch = 0;
      if (!down.size) canvas.classList.remove("moving");
    };
    canvas.addEventListener("pointerup", up);
    canvas.addEventListener("pointercancel", up);
    canvas.addEventListener("dblclick", (event) => { const i = nodeAt(event.offsetX, event.offsetY); if (i >= 0) fold(i); });
    canvas.addEventListener("wheel", (event) => {
      event.preventDefault();
      const unit = event.deltaMode === 1 ? 18 : event.deltaMode === 2 ? height : 1;
      if (event.ctrlKey || event.metaKey) zoom(Math.exp(-event.deltaY * unit * 0.004), event.offsetX, event.offsetY);
      else if (event.shiftKey && !event.deltaX) pan(-event.deltaY * unit, 0);
      else pan(-event.deltaX * unit, -event.deltaY * unit);
    }, { passive: false });
    const jump = (event) => {
      if (!event.buttons) return;
      view.x = (event.offsetX - 4) / layout.map.fx - width / view.k / 2;
      view.y = (event.offsetY - 4) / layout.map.fy - height / view.k / 2;
      bound();
      redraw();
    };
    map.addEventListener("pointerdown", (event) => { map.setPointerCapture(event.pointerId); jump(event); });
    map.addEventListener("pointermove", jump);
  }

  const KEYS = {
    "+": () => zoom(1.25), "=": () => zoom(1.25), "-": () => zoom(0.8), 0: fit, f: fit, h: home, e: unfoldAll, r: () => { foldRest(); arrange(); reveal(selected); },
    c: () => select(tree.data.path.length ? tree.data.path[tree.data.path.length - 1] : 0),
    "/": () => $("text").focus(), " ": () => fold(selected), "?": () => $("help").showModal(),
    "[": () => choose((DATA.trees.length + $("problem").selectedIndex - 1) % DATA.trees.length),
    "]": () => choose(($("problem").selectedIndex + 1) % DATA.trees.length),
  };

  function listen() {
    for (const id of ["text", "visits", "value", "terminal", "pruned", "passing"]) $(id).addEventListener("input", () => {
      arrange();
      bound();
      if (layout.rows.length * ROW < view.y + ROW) home();
    });
    $("problem").addEventListener("change", (event) => choose(event.target.selectedIndex));
    $("in").addEventListener("click", () => zoom(1.25));
    $("out").addEventListener("click", () => zoom(0.8));
    $("fit").addEventListener("click", fit);
    $("chosen").addEventListener("click", KEYS.c);
    $("all").addEventListener("click", () => (folded.size ? unfoldAll() : KEYS.r()));
    $("keys").addEventListener("click", () => $("help").showModal());
    window.addEventListener("keydown", (event) => {
      const inField = event.target.closest && event.target.closest("input,select,dialog");
      if (inField) { if (event.key === "Escape" && event.target.blur) event.target.blur(); return; }
      if (event.ctrlKey || event.metaKey || event.altKey) return;
      if (event.target.closest && event.target.closest("button") && (event.key === " " || event.key === "Enter")) return;
      if (event.key.startsWith("Arrow") && !(event.target.closest && event.target.closest("aside"))) { event.preventDefault(); step(event.key); return; }
      const action = KEYS[event.key];
      if (action) { event.preventDefault(); action(); }
    });
    new ResizeObserver(resize).observe($("stage"));
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => { theme(); arrange(); });
    window.addEventListener("hashchange", fromHash);
  }

  function fromHash() {
    const found = /^#(\d+)\/(\d+)$/.exec(location.hash);
    if (!found || Number(found[1]) >= DATA.trees.length) return false;
    choose(Number(found[1]), Number(found[2]));
    return true;
  }

  function begin() {
    for (const item of DATA.trees) $("problem").append(node("option", item.method ? `${item.problem_id} · ${item.method}` : item.problem_id));
    theme();
    ctx.font = `${FONT}px ${MONO}`;
    charWidth = ctx.measureText("0".repeat(50)).width / 50;
    measure();
    pointers();
    listen();
    if (!fromHash()) choose(0);
  }

  // For measuring and testing: what is on the screen, and how long frames take while the view moves.
  window.__tree = () => ({
    problem: tree.data.problem_id, states: tree.n, shown: layout.rows.reduce((sum, list) => sum + list.length, 0), matching: layout.count,
    drawn: last.drawn, selected, folded: folded.size, view: { ...view }, chosen: [...tree.chosen], at: (i) => { const b = boxOf(i); return [(b.x + b.w / 2 - view.x) * view.k, (b.y + CARD / 2 - view.y) * view.k]; },
  });
  window.__bench = (frames = 120) => new Promise((resolve) => {
    const before = { ...view }, intervals = [], times = [];
    let frame = 0, previous = performance.now();
    const tick = () => {
      const now = performance.now(), t = frame / frames;
      if (frame > 0) intervals.push(now - previous);
      previous = now;
      if (frame++ >= frames) {
        Object.assign(view, before);
        draw();
        resolve({ intervals, times });
        return;
      }
      const whole = Math.min(1, (width - 32) / layout.w, (height - 40) / layout.h);
      view.k = whole * (1.5 / whole) ** (0.5 - 0.5 * Math.cos(4 * Math.PI * t));
      view.x = layout.w * 0.5 * t - width / view.k / 4; view.y = layout.h * t - height / view.k / 2;
      bound();
      draw();
      times.push(performance.now() - now);
      requestAnimationFrame(tick);
    };
    requestAnimationFrame(tick);
  });
  begin();
})();
