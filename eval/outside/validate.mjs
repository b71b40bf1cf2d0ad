// Runs the Khronos glTF validator: node validate.mjs FILE... prints one JSON report per file.
import { readFileSync } from "node:fs";
import validator from "gltf-validator";

const reports = [];
for (const path of process.argv.slice(2)) {
  const report = await validator.validateBytes(new Uint8Array(readFileSync(path)), { maxIssues: 50 });
  reports.push(report.issues);
}
process.stdout.write(JSON.stringify({ version: validator.version(), reports }));
