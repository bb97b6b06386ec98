// Which Vulkan driver a test process sees. Dawn reads VK_ICD_FILENAMES once, when the process starts,
// and needs an existing XDG_RUNTIME_DIR, so the choice is made in the environment handed to the process.
import { existsSync, mkdirSync, readdirSync, readFileSync } from 'node:fs';
import { tmpdir, userInfo } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

const root = dirname(dirname(fileURLToPath(import.meta.url)));

/** The adapters tests can ask for: a software one by name, the machine's own, or none (wasm only). */
export const ADAPTERS = ['none', 'lavapipe', 'swiftshader', 'system'];

const icdFolders = ['/usr/share/vulkan/icd.d', '/usr/local/share/vulkan/icd.d', '/etc/vulkan/icd.d'];
const chromiumFolders = [
  '/usr/lib/chromium',
  '/usr/lib/chromium-browser',
  '/usr/lib64/chromium-browser',
  '/opt/google/chrome',
];

/**
 * Path of the Vulkan driver manifest of a software adapter, or null where the machine lacks it. A lavapipe that offers
 * less than Vulkan 1.3 does not count: Dawn refuses Mesa 22.3 (1.1.230, "shaderUniform*ArrayDynamicIndexing required").
 */
export function driverManifest(adapter) {
  const names = { lavapipe: /^lvp_icd.*\.json$/, swiftshader: /^vk_swiftshader_icd\.json$/ }[adapter];
  for (const folder of { lavapipe: icdFolders, swiftshader: chromiumFolders }[adapter] ?? []) {
    if (!existsSync(folder)) continue;
    for (const name of readdirSync(folder).sort()) {
      if (!names.test(name)) continue;
      const file = join(folder, name);
      const [major, minor] = JSON.parse(readFileSync(file, 'utf8')).ICD.api_version.split('.').map(Number);
      if (adapter === 'swiftshader' || major > 1 || minor >= 3) return file;
    }
  }
  return null;
}

/** Whether tests can run on `adapter` on this machine. `none` and `system` always can. */
export function adapterPresent(adapter) {
  return adapter === 'none' || adapter === 'system' || driverManifest(adapter) !== null;
}

/**
 * Environment variables for a process that is to see exactly `adapter`. FACENET_ADAPTER repeats the name, so that a
 * test can assert that the adapter it got is the one it was meant to get.
 */
export function adapterEnvironment(adapter) {
  if (!ADAPTERS.includes(adapter)) {
    throw new Error(`adapter: must be one of ${ADAPTERS.join(', ')}, got ${adapter}.`);
  }
  const environment = { FACENET_ADAPTER: adapter };
  if (adapter === 'none') {
    // An empty list of Vulkan drivers: what a test on `none` proves holds on a machine without a GPU.
    environment.VK_ICD_FILENAMES = '/dev/null';
    environment.VK_DRIVER_FILES = '/dev/null';
    return environment;
  }
  if (adapter !== 'system') {
    const manifest = driverManifest(adapter);
    if (manifest === null) throw new Error(`adapter: this machine has no ${adapter}. Run: node test/machine.mjs`);
    environment.VK_ICD_FILENAMES = manifest;
    environment.VK_DRIVER_FILES = manifest;
  }
  if (!process.env.XDG_RUNTIME_DIR || !existsSync(process.env.XDG_RUNTIME_DIR)) {
    const folder = join(tmpdir(), `facenet-gpu-runtime-${userInfo().uid}`);
    mkdirSync(folder, { recursive: true, mode: 0o700 });
    environment.XDG_RUNTIME_DIR = folder;
  }
  // Compiling costs up to 2 s a pipeline on lavapipe; kept between runs (ignored by git).
  const cache = join(root, '.cache', 'mesa');
  mkdirSync(cache, { recursive: true });
  environment.MESA_SHADER_CACHE_DIR = cache;
  return environment;
}
