// Reads what benches/count.rs counted, one line of JSON for each program, and fails if a ratio isn't the one in ratios.json.
// A ratio that got better fails too: otherwise what was won could be lost again, unnoticed.

import { readFileSync } from "node:fs";

const file = "benches/programs/ratios.json";
const { on, allowed_percent: allowed, ratios } = JSON.parse(readFileSync(new URL("ratios.json", import.meta.url), "utf8"));

const instructions = new Map(
  readFileSync(0, "utf8")
    .trim()
    .split("\n")
    .filter((line) => line !== "")
    .map((line) => JSON.parse(line))
    .map(({ id, profiles }) => [id, profiles[0].data.total.metrics.Ir.values.new]),
);
const of = (program) => {
  const number = instructions.get(program);
  if (!(number > 0)) throw new Error(`nothing was counted for ${program}: is the function still called measured_request?`);
  return number;
};

const floor = of("tower_http") - of("bare");
const head = of("head_copied") - of("tower_http");
const counted = {
  off: (of("off") - of("bare")) / floor,
  never: (of("never") - of("bare")) / floor,
  cloned: (of("off_cloned") - of("bare_cloned")) / (of("tower_http_cloned") - of("bare_cloned")),
  default_beyond_head: (of("default") - of("bare") - head) / floor,
};

const meaning = {
  off: "recovery off",
  never: "401 renews the token, nothing is sent again",
  cloned: "recovery off, cloned for every request",
  default_beyond_head: "default, less a copy of the head in a box",
};
const row = (...cells) => console.log(`| ${cells[0].padEnd(43)} | ${cells.slice(1).map((cell) => cell.padStart(10)).join(" | ")} |`);

console.log("instructions per request beyond the bare service, as ratios to tower-http's static header\n");
row("", "counted", "checked in", "allowed");
const complaints = [];
for (const [name, ratio] of Object.entries(counted)) {
  const percent = (ratio / ratios[name] - 1) * 100;
  row(meaning[name], ratio.toFixed(3), ratios[name].toFixed(3), `± ${allowed} %`);
  const found = `${name}: ${ratio.toFixed(3)} is ${Math.abs(percent).toFixed(1)} %`;
  if (percent > allowed) {
    complaints.push(
      `${found} above ${ratios[name]}: the layer costs more. If that is meant, the commit says why and writes the number into ${file}`,
    );
  } else if (!(percent >= -allowed)) {
    complaints.push(`${found} below ${ratios[name]}: the layer costs less. Lower the number in ${file}, so that it stays so`);
  }
}
if (complaints.length > 0) {
  console.log(`\n${complaints.join("\n")}`);
  console.log(`(The numbers hold on: ${on}. After a change of compiler they may move without anybody's doing.)`);
  process.exitCode = 1;
}
console.log(
  `\nRESULT ${JSON.stringify(Object.fromEntries(Object.entries(counted).map(([name, ratio]) => [name, Number(ratio.toFixed(4))])))}`,
);
