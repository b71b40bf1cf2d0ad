// Plays a .glb with three.js and prints positions and normals at given times: an outside reader of our exports.
//
//   node three_poses.mjs FILE '[0, 0.125, ...]'
//
// Prints {"revision", "duration", "poses": [{"position", "normal" or null}]}, base64 float64 [n, 3] in world space,
// nodes by index, then primitives in mesh order.
import { readFileSync } from "node:fs";

globalThis.self = globalThis; // GLTFLoader looks for window.URL there
globalThis.ProgressEvent ??= class {};
const THREE = await import("three");
const { GLTFLoader } = await import("three/addons/loaders/GLTFLoader.js");

// Materials and pictures play no part in posing, and node cannot decode pictures.
function withoutLooks(bytes) {
  const size = bytes.readUInt32LE(12);
  const json = JSON.parse(bytes.toString("utf8", 20, 20 + size));
  for (const key of ["materials", "textures", "images", "samplers", "extensionsUsed", "extensionsRequired"]) {
    delete json[key];
  }
  for (const mesh of json.meshes) for (const primitive of mesh.primitives) delete primitive.material;
  const text = Buffer.from(JSON.stringify(json));
  const chunk = Buffer.concat([text, Buffer.alloc(-text.length & 3, " ")]);
  const head = Buffer.from(bytes.subarray(0, 20));
  const rest = bytes.subarray(20 + size);
  head.writeUInt32LE(20 + chunk.length + rest.length, 8);
  head.writeUInt32LE(chunk.length, 12);
  const out = Buffer.concat([head, chunk, rest]);
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

// The shader's morph normal: base + sum of weight times target, then the normal matrix.
function morphedNormal(mesh, i, out) {
  const { normal } = mesh.geometry.attributes;
  out.fromBufferAttribute(normal, i);
  const delta = new THREE.Vector3();
  (mesh.geometry.morphAttributes.normal ?? []).forEach((target, k) => {
    out.addScaledVector(delta.fromBufferAttribute(target, i), mesh.morphTargetInfluences[k]);
  });
  const matrix = new THREE.Matrix3().getNormalMatrix(mesh.matrixWorld);
  return out.applyMatrix3(matrix);
}

const base64 = (numbers) => Buffer.from(new Float64Array(numbers).buffer).toString("base64");

function pose(gltf, meshes) {
  gltf.scene.updateMatrixWorld(true);
  const positions = [];
  const normals = [];
  const point = new THREE.Vector3();
  for (const mesh of meshes) {
    const { position, normal } = mesh.geometry.attributes;
    for (let i = 0; i < position.count; i++) {
      positions.push(...mesh.getVertexPosition(i, point).applyMatrix4(mesh.matrixWorld));
      if (normal) normals.push(...morphedNormal(mesh, i, point));
    }
  }
  return { position: base64(positions), normal: normals.length === positions.length ? base64(normals) : null };
}

const [path, wanted] = process.argv.slice(2);
const gltf = await new GLTFLoader().parseAsync(withoutLooks(readFileSync(path)), "");
const meshes = meshesInOrder(gltf);
const mixer = new THREE.AnimationMixer(gltf.scene);
const action = mixer.clipAction(gltf.animations[0]);
action.setLoop(THREE.LoopOnce);
action.clampWhenFinished = true;
action.play();
const poses = JSON.parse(wanted).map((seconds) => {
  action.reset().play();
  mixer.setTime(seconds);
  return pose(gltf, meshes);
});
process.stdout.write(JSON.stringify({ revision: THREE.REVISION, duration: gltf.animations[0].duration, poses }));
