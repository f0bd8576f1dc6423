// What a program can tell of whether everybody can use this page: a list of problems. The numbers are those of WCAG 2.2 AA.
const problems = [];
const check = (fine, problem) => fine || problems.push(problem);

check(document.documentElement.lang === "en", "no language");
check(document.querySelectorAll("h1").length === 1, "not exactly one h1");
check(document.title.startsWith(document.querySelector("h1").innerText), "the title doesn't begin with the heading");
check(document.querySelectorAll("main").length === 1, "not exactly one main");
check(document.querySelector("meta[name=viewport]"), "no viewport");
check(document.scripts.length === 0, "a script");
const levels = [...document.querySelectorAll("h1, h2, h3")].map((heading) => Number(heading.tagName[1]));
check(levels.every((level, at) => level <= (levels[at - 1] ?? 0) + 1), "headings skip a level");
const ids = [...document.querySelectorAll("[id]")].map(({ id }) => id);
check(new Set(ids).size === ids.length, "an id twice");

// 1.4.10: no scrolling in two directions.
check(document.documentElement.scrollWidth <= innerWidth, `wider than ${innerWidth}`);

// 2.5.8: at least 24 by 24, except for links in text.
for (const button of document.querySelectorAll("button, input")) {
  const { width, height } = button.getBoundingClientRect();
  check(width >= 24 && height >= 24, `too small: ${button.id}`);
}

// 1.4.3: contrast of text.
const color = (value) => value.match(/[\d.]+/g).map(Number);
const luminance = (rgb) => {
  const [r, g, b] = rgb.map((part) => (part <= 10.31475 ? part / 3294.6 : ((part / 255 + 0.055) / 1.055) ** 2.4));
  return 0.2126 * r + 0.7152 * g + 0.0722 * b;
};
const behind = (element) => {
  for (let at = element; at; at = at.parentElement) {
    const [r, g, b, alpha = 1] = color(getComputedStyle(at).backgroundColor);
    if (alpha === 1) return [r, g, b];
  }
  return matchMedia("(prefers-color-scheme: dark)").matches ? [18, 18, 18] : [255, 255, 255];
};
for (const element of document.querySelectorAll("body *")) {
  const shows = [...element.childNodes].some((node) => node.nodeType === 3 && node.data.trim());
  if (!shows || element.tagName === "STYLE") continue;
  const [one, other] = [color(getComputedStyle(element).color).slice(0, 3), behind(element)].map(luminance);
  const ratio = (Math.max(one, other) + 0.05) / (Math.min(one, other) + 0.05);
  check(ratio >= 4.5, `contrast ${ratio.toFixed(2)}: ${element.innerText}`);
}

// 2.4.7: what has the focus shows it, and everything that does something can have it.
for (const element of document.querySelectorAll("a, button, input")) {
  element.focus({ focusVisible: true });
  check(document.activeElement === element, `can't have the focus: ${element.innerText}`);
  check(getComputedStyle(element).outlineStyle !== "none", `doesn't show the focus: ${element.innerText}`);
  element.blur();
}
return problems;
