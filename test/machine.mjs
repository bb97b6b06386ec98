// What the tests need from the machine: npm packages, Chromium (which brings SwiftShader), Mesa's lavapipe.
// Needs nothing but Node. `node test/machine.mjs` installs what is missing, or prints the commands that would.
import { spawnSync } from 'node:child_process';
import {
  copyFileSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { homedir, tmpdir } from 'node:os';
import { basename, dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { adapterPresent } from './adapters.mjs';

const root = dirname(dirname(fileURLToPath(import.meta.url)));

// -- npm packages ----------------------------------------------------------------------------------------------------

/** Names of packages in package-lock.json that node_modules lacks or has in another version. Optional ones may be absent. */
export function missingPackages(folder = root) {
  const read = (file) => JSON.parse(readFileSync(join(folder, file), 'utf8')).packages;
  const wanted = read('package-lock.json');
  const marker = join('node_modules', '.package-lock.json');
  const present = existsSync(join(folder, marker)) ? read(marker) : {};
  return Object.keys(wanted).filter((path) => {
    if (path === '') return false;
    const { version, optional, peer } = wanted[path];
    const found = existsSync(join(folder, path, 'package.json')) ? present[path]?.version : undefined;
    return found === undefined ? !(optional || peer) : found !== version;
  });
}

/** Runs `npm ci` where packages are missing. Throws with npm's own words on the terminal if it fails. */
export function installPackages() {
  const missing = missingPackages();
  if (missing.length === 0) return false;
  console.error(`machine: ${missing.length} npm packages are missing, for example ${missing[0]}: npm ci`);
  // Through a shell on Windows, where npm is a batch file. Inside `npm test`, npm_execpath is the npm in use.
  const npm = process.env.npm_execpath;
  const result = npm?.endsWith('.js')
    ? spawnSync(process.execPath, [npm, 'ci', '--no-audit', '--no-fund'], { cwd: root, stdio: ['ignore', 2, 2] })
    : spawnSync('npm', ['ci', '--no-audit', '--no-fund'], {
        cwd: root,
        stdio: ['ignore', 2, 2],
        shell: process.platform === 'win32',
      });
  if (result.status !== 0)
    throw new Error(`machine: npm ci ended with ${result.status ?? result.error?.message}. See above.`);
  return true;
}

// -- Chromium and lavapipe -------------------------------------------------------------------------------------------

/** Path of a Chromium or Chrome of this machine, or null. The variable CHROMIUM overrides the search. */
export function findChromium() {
  const candidates = [
    process.env.CHROMIUM,
    '/usr/bin/chromium',
    '/usr/bin/chromium-browser',
    '/usr/bin/google-chrome',
    '/usr/bin/google-chrome-stable',
    '/Applications/Google Chrome.app/Contents/MacOS/Google Chrome',
    '/Applications/Chromium.app/Contents/MacOS/Chromium',
    join(process.env.PROGRAMFILES ?? 'C:\\Program Files', 'Google', 'Chrome', 'Application', 'chrome.exe'),
    join(homedir(), '.local', 'bin', 'chromium'),
  ];
  return candidates.find((path) => path && existsSync(path)) ?? null;
}

/** ID and VERSION_CODENAME of /etc/os-release, or null where there is none. */
export function linuxDistribution(text = readIfThere('/etc/os-release')) {
  if (text === null) return null;
  const value = (key) => new RegExp(`^${key}="?([^"\n]*)"?$`, 'm').exec(text)?.[1] ?? '';
  return { id: value('ID'), codename: value('VERSION_CODENAME') };
}

function readIfThere(path) {
  return existsSync(path) ? readFileSync(path, 'utf8') : null;
}

/**
 * The entry of apt's sources that adds `<codename>-backports`: the machine's own entry for `<codename>` with the suite
 * replaced, so that mirror, options and key stay what the owner chose. Files are { name, text }, in the one-line form
 * (.list) or the deb822 form (.sources). Returns { name, text } of a file to add, null where backports are already
 * there, and throws where no entry names the release.
 */
export function backportsSource(files, codename) {
  const suite = `${codename}-backports`;
  let derived = null;
  for (const { name, text } of files) {
    if (name.endsWith('.sources')) {
      for (const stanza of text.split(/\n[ \t]*\n/)) {
        const lines = stanza.split('\n').filter((line) => !line.startsWith('#'));
        const fields = lines.join('\n');
        const field = (key) => new RegExp(`^${key}:[ \t]*(.*)$`, 'im').exec(fields)?.[1].trim().split(/\s+/) ?? [];
        if (!field('Types').includes('deb') || field('Enabled')[0]?.toLowerCase() === 'no') continue;
        if (field('Suites').includes(suite)) return null;
        if (derived === null && field('Suites').includes(codename) && field('Components').includes('main')) {
          const body = fields
            .replace(/^Types:.*$/im, 'Types: deb')
            .replace(/^Suites:.*$/im, `Suites: ${suite}`)
            .replace(/^Components:.*$/im, 'Components: main');
          derived = { name: `${suite}.sources`, text: `${body.trim()}\n` };
        }
      }
    } else if (name.endsWith('.list')) {
      for (const line of text.split('\n')) {
        const match = /^\s*deb\s+(\[[^\]]*\]\s+)?(\S+)\s+(\S+)\s+([^#]*)/.exec(line);
        if (match === null) continue;
        const [, options = '', uri, distribution, components] = match;
        if (distribution === suite) return null;
        if (derived === null && distribution === codename && components.split(/\s+/).includes('main')) {
          derived = { name: `${suite}.list`, text: `deb ${options}${uri} ${suite} main\n` };
        }
      }
    }
  }
  if (derived === null) throw new Error(`machine: no entry of apt's sources names ${codename} main`);
  return derived;
}

function aptSources() {
  const folder = '/etc/apt/sources.list.d';
  const names = existsSync(folder) ? readdirSync(folder).filter((name) => /\.(list|sources)$/.test(name)) : [];
  const paths = ['/etc/apt/sources.list', ...names.sort().map((name) => join(folder, name))];
  return paths
    .filter((path) => existsSync(path))
    .map((path) => ({ name: basename(path), path, text: readFileSync(path, 'utf8') }));
}

/** What the tests would use and this machine lacks: 'chromium', 'lavapipe'. */
export function missingOnMachine() {
  const missing = [];
  if (findChromium() === null) missing.push('chromium');
  if (process.platform === 'linux' && !adapterPresent('lavapipe')) missing.push('lavapipe');
  return missing;
}

/** Exact commands with which the owner of this machine installs what is missing. */
export function installCommands(missing, distribution = linuxDistribution()) {
  if (missing.length === 0) return [];
  const names = missing.map((what) => ({ chromium: 'chromium', lavapipe: 'mesa-vulkan-drivers' })[what]);
  if (process.platform === 'darwin') return ['brew install --cask chromium'];
  if (process.platform === 'win32') return ['winget install Google.Chrome'];
  switch (distribution?.id) {
    case 'debian':
      return debianCommands(missing, distribution.codename);
    case 'ubuntu':
      return missing.map((what) =>
        what === 'chromium' ? 'sudo snap install chromium' : 'sudo apt-get install mesa-vulkan-drivers libvulkan1',
      );
    case 'fedora':
      return [`sudo dnf install ${names.join(' ')}`];
    case 'arch':
      return [`sudo pacman -S ${names.map((name) => (name === 'chromium' ? name : 'vulkan-swrast')).join(' ')}`];
    default:
      return [`install with your package manager: ${missing.join(', ')} (Mesa's Vulkan software driver)`];
  }
}

function debianCommands(missing, codename) {
  const commands = [];
  let target = '';
  if (missing.includes('lavapipe') && codename === 'bookworm') {
    const addition = backportsSource(aptSources(), codename);
    target = `-t ${codename}-backports `;
    if (addition !== null) {
      const lines = addition.text
        .trim()
        .split('\n')
        .map((line) => `'${line.replaceAll("'", "'\\''")}'`);
      commands.push(`printf '%s\\n' ${lines.join(' ')} | sudo tee /etc/apt/sources.list.d/${addition.name}`);
    }
  }
  commands.push('sudo apt-get update');
  if (missing.includes('lavapipe')) commands.push(`sudo apt-get install ${target}mesa-vulkan-drivers libvulkan1`);
  if (missing.includes('chromium')) commands.push('sudo apt-get install chromium');
  return commands;
}

/**
 * Installs Chromium and lavapipe with apt. On bookworm Mesa comes from backports (22.3 of the release lacks what Dawn
 * asks for); the owner's sources are left as they are: the backports entry is in force for these commands only.
 */
function installWithApt(missing, distribution) {
  const folder = mkdtempSync(join(tmpdir(), 'facenet-gpu-apt-'));
  try {
    const options = [];
    const mesa = ['mesa-vulkan-drivers', 'libvulkan1'];
    let target = [];
    if (missing.includes('lavapipe') && distribution.codename === 'bookworm') {
      const sources = aptSources();
      const addition = backportsSource(sources, distribution.codename);
      target = ['-t', `${distribution.codename}-backports`];
      if (addition !== null) {
        const parts = join(folder, 'sources');
        mkdirSync(parts);
        for (const { name, path } of sources) {
          if (path !== '/etc/apt/sources.list') copyFileSync(path, join(parts, name));
        }
        writeFileSync(join(parts, addition.name), addition.text);
        options.push('-o', `Dir::Etc::sourceparts=${parts}`);
      }
    }
    const apt = (...args) => {
      console.error(`machine: apt-get ${args.join(' ')}`);
      const result = spawnSync('apt-get', [...options, '-q', ...args], {
        stdio: ['ignore', 2, 2],
        env: { ...process.env, DEBIAN_FRONTEND: 'noninteractive', LC_ALL: 'C' },
      });
      if (result.status !== 0)
        throw new Error(`machine: apt-get ${args[0]} ended with ${result.status ?? result.error?.message}. See above.`);
    };
    apt('update');
    if (missing.includes('lavapipe')) apt('install', '-y', '--no-install-recommends', ...target, ...mesa);
    if (missing.includes('chromium')) apt('install', '-y', '--no-install-recommends', 'chromium');
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

/**
 * Installs what is missing where it may (root on Debian), otherwise says which commands do. Returns what is still missing
 * afterwards; never throws, because everything else can run without it.
 */
export function prepareMachine() {
  let missing = missingOnMachine();
  if (missing.length === 0) return missing;
  const distribution = linuxDistribution();
  if (distribution?.id === 'debian' && process.getuid?.() === 0) {
    try {
      installWithApt(missing, distribution);
    } catch (error) {
      console.error(error.message);
    }
    missing = missingOnMachine();
  }
  if (missing.length > 0) {
    console.error(`\nmachine: MISSING: ${missing.join(' and ')}. The tests that need it are skipped. To install:`);
    for (const command of installCommands(missing, distribution)) console.error(`    ${command}`);
    console.error('');
  }
  return missing;
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  installPackages();
  process.exitCode = prepareMachine().length === 0 ? 0 : 1;
}
