// Poses a glTF file with three.js and prints the vertices as JSON: an outside witness of our own posing.
//
//   node pose_with_three.mjs FILE '[{"clip": 0, "seconds": 0.5}, ...]'
//
// Must lie in a folder whose node_modules holds three. Vertex order: nodes by index, then primitives in mesh order.
import { readFileSync } from "node:fs";
import { dirname, join } from "node:path";

globalThis.self = globalThis; // GLTFLoader looks for window.URL there
globalThis.ProgressEvent ??= class {};
const THREE = await import("three");
const { GLTFLoader } = await import("three/addons/loaders/GLTFLoader.js");

function readGltf(path) {
  const bytes = readFileSync(path);
  if (bytes.toString("latin1", 0, 4) !== "glTF") {
    const json = JSON.parse(bytes.toString("utf8"));
    const uri = json.buffers[0].uri;
    const blob = uri.startsWith("data:")
      ? Buffer.from(uri.slice(uri.indexOf(",") + 1), "base64")
      : readFileSync(join(dirname(path), decodeURIComponent(uri)));
    delete json.buffers[0].uri;
    return { json, blob };
  }
  const size = bytes.readUInt32LE(12);
  const json = JSON.parse(bytes.toString("utf8", 20, 20 + size));
  const start = 20 + size + 8;
  return { json, blob: bytes.subarray(start, start + bytes.readUInt32LE(20 + size)) };
}

// Materials and pictures play no part in posing, and node cannot decode pictures.
function withoutLooks(json) {
  for (const key of ["materials", "textures", "images", "samplers"]) delete json[key];
  delete json.extensionsUsed;
  delete json.extensionsRequired;
  for (const mesh of json.meshes) for (const primitive of mesh.primitives) delete primitive.material;
  return json;
}

function pack({ json, blob }) {
  let text = Buffer.from(JSON.stringify(withoutLooks(json)));
  text = Buffer.concat([text, Buffer.alloc(-text.length & 3, " ")]);
  const binary = Buffer.concat([blob, Buffer.alloc(-blob.length & 3)]);
  const out = Buffer.alloc(12 + 8 + text.length + 8 + binary.length);
  out.write("glTF", 0, "latin1");
  out.writeUInt32LE(2, 4);
  out.writeUInt32LE(out.length, 8);
  out.writeUInt32LE(text.length, 12);
  out.writeUInt32LE(0x4e4f534a, 16);
  text.copy(out, 20);
  out.writeUInt32LE(binary.length, 20 + text.length);
  out.writeUInt32LE(0x004e4942, 24 + text.length);
  binary.copy(out, 28 + text.length);
  return out.buffer.slice(out.byteOffset, out.byteOffset + out.length);
}

function meshesInOrder(gltf) {
  const found = [];
  gltf.scene.traverse((object) => {
    if (!object.isMesh) return;
    const own = gltf.parser.associations.get(object) ?? {};
    const above = gltf.parser.associations.get(object.parent) ?? {};
    found.push({ object, node: own.nodes ?? above.nodes, primitive: own.primitives ?? 0 });
  });
  return found.sort((a, b) => a.node - b.node || a.primitive - b.primitive).map((entry) => entry.object);
}

function vertices(gltf, meshes) {
  gltf.scene.updateMatrixWorld(true);
  const out = [];
  const point = new THREE.Vector3();
  for (const mesh of meshes) {
    for (let i = 0; i < mesh.geometry.attributes.position.count; i++) {
      mesh.getVertexPosition(i, point); // morph targets and skin
      point.applyMatrix4(mesh.matrixWorld);
      out.push(point.x, point.y, point.z);
    }
  }
  return Buffer.from(new Float64Array(out).buffer).toString("base64");
}

const [path, wanted] = process.argv.slice(2);
const gltf = await new GLTFLoader().parseAsync(pack(readGltf(path)), "");
const meshes = meshesInOrder(gltf);
const poses = JSON.parse(wanted).map(({ clip, seconds }) => {
  const mixer = new THREE.AnimationMixer(gltf.scene);
  const action = mixer.clipAction(gltf.animations[clip]);
  action.setLoop(THREE.LoopOnce);
  action.clampWhenFinished = true;
  action.play();
  mixer.setTime(seconds);
  const result = vertices(gltf, meshes);
  mixer.stopAllAction(); // back to the stored transforms before the next clip
  mixer.uncacheRoot(gltf.scene);
  return result;
});
process.stdout.write(JSON.stringify({ revision: THREE.REVISION, poses }));
