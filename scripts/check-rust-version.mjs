// Fails if a crate that users compile asks for a newer Rust than this crate promises (`rust-version`).
// Development dependencies are left out: they never reach a user.

import { execFileSync } from "node:child_process";

const metadata = JSON.parse(
  execFileSync("cargo", ["metadata", "--format-version", "1", "--all-features"], {
    encoding: "utf8",
    maxBuffer: 1 << 28,
    stdio: ["ignore", "pipe", "inherit"],
  }),
);
const packages = new Map(metadata.packages.map((entry) => [entry.id, entry]));
const nodes = new Map(metadata.resolve.nodes.map((node) => [node.id, node]));
const root = packages.get(metadata.resolve.root);

const seen = new Set();
const visit = (id) => {
  if (seen.has(id)) return;
  seen.add(id);
  for (const dependency of nodes.get(id).deps) {
    if (dependency.dep_kinds.some(({ kind }) => kind !== "dev")) visit(dependency.pkg);
  }
};
visit(root.id);
seen.delete(root.id);

const parts = (version) => version.split(".").concat("0", "0").slice(0, 3).map(Number);
const newer = (left, right) => {
  const [a, b] = [parts(left), parts(right)];
  const at = a.findIndex((part, index) => part !== b[index]);
  return at >= 0 && a[at] > b[at];
};

if (!root.rust_version) {
  console.error(`${root.name} declares no rust-version`);
  process.exit(1);
}
const declared = [...seen].map((id) => packages.get(id)).filter((entry) => entry.rust_version);
const tooNew = declared.filter((entry) => newer(entry.rust_version, root.rust_version));
for (const { name, version, rust_version } of tooNew) {
  console.error(`${name} ${version} needs Rust ${rust_version}, ${root.name} promises ${root.rust_version}`);
}
if (tooNew.length > 0) process.exit(1);

const highest = declared.reduce((most, entry) => (newer(entry.rust_version, most) ? entry.rust_version : most), "1.0");
console.log(`${seen.size} crates, the highest rust-version is ${highest}, promised ${root.rust_version}`);
