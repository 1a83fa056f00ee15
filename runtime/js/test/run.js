/**
 * Asks Python what is right, then runs the tests: node test/run.js [FILE...].
 *
 * The interpreter is BARECLIP_PYTHON, or the environment that CONTRIBUTING.md makes.
 */

import { spawnSync } from "node:child_process";
import { mkdirSync, mkdtempSync, readdirSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { delimiter, join } from "node:path";

const js = join(import.meta.dirname, "..");
const root = join(js, "..", "..");
const python = process.env.BARECLIP_PYTHON ?? join(root, ".venv-test", "bin", "python");
const folder = mkdtempSync(join(tmpdir(), "bareclip-js-"));
const paths = [join(root, "runtime"), join(root, "export"), process.env.PYTHONPATH];

function run(command, given, options) {
  const { status, error } = spawnSync(command, given, { stdio: "inherit", ...options });
  if (error) throw error;
  return status ?? 1;
}

try {
  const env = { ...process.env, PYTHONPATH: paths.filter(Boolean).join(delimiter) };
  for (const what of ["pictures", "tokens"]) {
    mkdirSync(join(folder, what));
    const module = `tests.javascript.expected_${what}`;
    if (run(python, ["-m", module, join(folder, what)], { cwd: root, env })) {
      throw new Error(`${python} -m ${module} failed`);
    }
  }
  const files = process.argv.slice(2);
  const all = readdirSync(join(js, "test")).filter((name) => name.endsWith(".test.js"));
  const chosen = files.length ? files : all.map((name) => join("test", name));
  // One file after another: each has a browser or a model, and a machine may have two processors.
  const given = ["--test", "--test-concurrency=1", "--test-timeout=300000", ...chosen];
  process.exitCode = run(process.execPath, given, {
    cwd: js,
    env: { ...process.env, BARECLIP_EXPECTED: folder },
  });
} finally {
  rmSync(folder, { recursive: true, force: true });
}
