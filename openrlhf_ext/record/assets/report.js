"use strict";
// Values under the pointer, or under the arrow keys. The charts themselves need no script.
for (const figure of document.querySelectorAll(".chart")) {
  const data = JSON.parse(figure.querySelector("script").textContent);
  const svg = figure.querySelector("svg"), tip = figure.querySelector(".tip"), plot = figure.querySelector(".plot");
  const cursor = figure.querySelector(".cursor"), dots = figure.querySelector(".dots");
  const width = svg.viewBox.baseVal.width;
  const place = (scale, value) => {
    const f = scale.log ? Math.log10 : (v) => v;
    return scale.a + (f(value) - f(scale.lo)) / (f(scale.hi) - f(scale.lo)) * (scale.b - scale.a);
  };
  const text = (v) => v === null ? "not finite" : Math.abs(v) >= 1e6 || (v !== 0 && Math.abs(v) < 1e-3) ? v.toExponential(2) : String(Number(v.toPrecision(4)));
  const all = [...new Set(data.s.flatMap((s) => s.x))].sort((a, b) => a - b);
  let at = -1;

  const nearest = (xs, x) => {
    let low = 0, high = xs.length - 1;
    while (high - low > 1) { const mid = (low + high) >> 1; if (xs[mid] < x) low = mid; else high = mid; }
    return Math.abs(xs[low] - x) <= Math.abs(xs[high] - x) ? low : high;
  };
  const add = (parent, name, className, content) => {
    const node = document.createElement(name);
    node.className = className;
    if (content !== undefined) node.textContent = content;
    parent.append(node);
    return node;
  };
  const show = (index) => {
    at = index;
    const x = all[index], px = place(data.x, x);
    cursor.setAttribute("transform", `translate(${px.toFixed(1)})`);
    tip.replaceChildren();
    add(tip, "div", "", `${data.x.label} ${text(x)}`);
    dots.replaceChildren();
    const gap = all.length > 1 ? (all[all.length - 1] - all[0]) / 20 : Infinity;
    for (const series of data.s) {
      const i = nearest(series.x, x);
      if (Math.abs(series.x[i] - x) > gap) continue;
      const row = add(tip, "div", "");
      add(row, "i", `k${series.c}`);
      row.append(series.n + " ");
      const range = series.r && series.r[i] && series.r[i][0] !== null ? ` (${text(series.r[i][0])} to ${text(series.r[i][1])})` : "";
      const mean = series.m && series.m[i] !== null ? ` · mean ${text(series.m[i])}` : "";
      add(row, "b", "", text(series.y[i]) + range + mean);
      const y = series.dot && series.y[i] !== null ? place(data.y, series.y[i]) : NaN;
      if (y >= 4 && y <= 180) {
        const dot = document.createElementNS(svg.namespaceURI, "circle");
        dot.setAttribute("class", `f${series.c}`);
        dot.setAttribute("cx", place(data.x, series.x[i]).toFixed(1));
        dot.setAttribute("cy", y.toFixed(1));
        dot.setAttribute("r", "4");
        dots.append(dot);
      }
    }
    svg.classList.add("on");
    tip.hidden = false;
    tip.style.left = "0"; // its width is measured where it has all the room
    const left = px / width * plot.clientWidth, room = plot.clientWidth - tip.offsetWidth;
    tip.style.left = `${Math.max(0, Math.min(room, left > plot.clientWidth / 2 ? left - tip.offsetWidth - 12 : left + 12))}px`;
  };
  const hide = () => { svg.classList.remove("on"); tip.hidden = true; dots.replaceChildren(); };
  const point = (event) => {
    const box = svg.getBoundingClientRect();
    const px = (event.clientX - box.left) / box.width * width;
    show(nearest(all, data.x.lo + (px - data.x.a) / (data.x.b - data.x.a) * (data.x.hi - data.x.lo)));
  };
  plot.addEventListener("pointermove", point);
  plot.addEventListener("pointerdown", point);
  plot.addEventListener("pointerleave", hide);
  figure.addEventListener("blur", hide);
  addEventListener("resize", hide);
  figure.addEventListener("keydown", (event) => {
    const step = { ArrowLeft: -1, ArrowRight: 1, Home: -Infinity, End: Infinity }[event.key];
    if (event.key === "Escape") hide();
    if (step === undefined) return;
    event.preventDefault();
    show(Math.max(0, Math.min(all.length - 1, at < 0 && step === -1 ? all.length - 1 : at + step)));
  });
}
