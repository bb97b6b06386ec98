// topK: the k rows nearest to each query, by squared distance; of equally near ones the lower row first.
//
// Shapes: query [queries, columns], templates [rows, columns] f32, querySquares [queries] and squares [rows]: sums of the squares of their rows;
// count [1] i32: rows in use; distance = querySquares[q] + squares[row] - 2 (query[q] . templates[row]). A list is 2 k numbers: k distances, nearest
// first, then their rows. scan searches `part` rows a workgroup and writes y [queries, outLists, 2 k]; merge makes one list of as many as
// fit into its memory: lists [queries, inLists, 2 k] -> y [queries, outLists, 2 k]. A last list has -1 in places that are not filled.
// Bytes: words: the query as 16-bit integers, two to a word; codes: four signed bytes to a word, `columns` words a row;
//   distance = queryScale[q, 1] - queryScale[q, 0] * scales[row] * (words . codes), the product exact in integers.
// Each list is sorted whole (bitonic): the same work whatever comes in, and (distance, row) is a total order, so the answer is exact.

struct Params { queries : u32, columns : u32, k : u32, part : u32, inLists : u32, outLists : u32 }

const SLOTS = 1024u;     // entries that are sorted together
const FAR = 3e38;        // beyond every distance
const NOBODY = 3e7;      // beyond every row
const LANES = 64u;

@group(0) @binding(0) var<uniform> params : Params;
@group(0) @binding(1) var<storage, read> query : array<f32>;
@group(0) @binding(2) var<storage, read> templates : array<f32>;
@group(0) @binding(3) var<storage, read> count : array<i32>;
@group(0) @binding(4) var<storage, read> lists : array<f32>;
@group(0) @binding(5) var<storage, read_write> y : array<f32>;
@group(0) @binding(6) var<storage, read> queryScale : array<f32>;
@group(0) @binding(7) var<storage, read> codes : array<i32>;
@group(0) @binding(8) var<storage, read> scales : array<f32>;
@group(0) @binding(9) var<storage, read> words : array<i32>;
@group(0) @binding(10) var<storage, read> querySquares : array<f32>;
@group(0) @binding(11) var<storage, read> squares : array<f32>;

var<workgroup> distances : array<f32, SLOTS>;
var<workgroup> rows : array<f32, SLOTS>;

fn before(i : u32, j : u32) -> bool {
  return distances[i] < distances[j] || (distances[i] == distances[j] && rows[i] < rows[j]);
}

// Sorts what lies in workgroup memory and writes the first k as list `list` of query q.
fn sortAndWrite(lane : u32, q : u32, list : u32) {
  workgroupBarrier();
  for (var size = 2u; size <= SLOTS; size *= 2u) {
    for (var reach = size / 2u; reach > 0u; reach /= 2u) {
      for (var pair = lane; pair < SLOTS / 2u; pair += LANES) {
        let i = 2u * reach * (pair / reach) + pair % reach;
        let j = i + reach;
        if (before(j, i) == ((i & size) == 0u)) {
          let distance = distances[i];
          distances[i] = distances[j];
          distances[j] = distance;
          let row = rows[i];
          rows[i] = rows[j];
          rows[j] = row;
        }
      }
      workgroupBarrier();
    }
  }
  let to = (q * params.outLists + list) * 2u * params.k;
  for (var i = lane; i < params.k; i += LANES) {
    let filled = rows[i] < NOBODY;
    // Within the lists that are merged on, what is not filled must stay behind everything.
    let last = params.outLists == 1u;
    y[to + i] = select(select(FAR, -1.0, last), distances[i], filled);
    y[to + params.k + i] = select(select(NOBODY, -1.0, last), rows[i], filled);
  }
}

@compute @workgroup_size(64)
fn scan(@builtin(workgroup_id) group : vec3u, @builtin(local_invocation_index) lane : u32) {
  let known = u32(max(count[0], 0));
  let asked = group.y * params.columns;
  for (var i = lane; i < SLOTS; i += LANES) {
    let row = group.x * params.part + i;
    var distance = FAR;
    if (i < params.part && row < known) {
      let at = row * params.columns;
      var product = 0.0;
      for (var c = 0u; c < params.columns; c++) {
        product = fma(query[asked + c], templates[at + c], product);
      }
      distance = (querySquares[group.y] + squares[row]) - 2.0 * product;
    }
    distances[i] = distance;
    rows[i] = select(NOBODY, f32(row), i < params.part && row < known);
  }
  sortAndWrite(lane, group.y, group.x);
}

@compute @workgroup_size(64)
fn scanBytes(@builtin(workgroup_id) group : vec3u, @builtin(local_invocation_index) lane : u32) {
  let known = u32(max(count[0], 0));
  let asked = group.y * 2u * params.columns;
  let factor = queryScale[2u * group.y];
  let shift = queryScale[2u * group.y + 1u];
  for (var i = lane; i < SLOTS; i += LANES) {
    let row = group.x * params.part + i;
    var distance = FAR;
    if (i < params.part && row < known) {
      let at = row * params.columns;
      var sum = 0;
      for (var c = 0u; c < params.columns; c++) {
        let four = codes[at + c];
        let low = words[asked + 2u * c];
        let high = words[asked + 2u * c + 1u];
        sum += ((four << 24u) >> 24u) * ((low << 16u) >> 16u) + ((four << 16u) >> 24u) * (low >> 16u)
             + ((four << 8u) >> 24u) * ((high << 16u) >> 16u) + (four >> 24u) * (high >> 16u);
      }
      distance = shift - factor * (scales[row] * f32(sum));
    }
    distances[i] = distance;
    rows[i] = select(NOBODY, f32(row), i < params.part && row < known);
  }
  sortAndWrite(lane, group.y, group.x);
}

@compute @workgroup_size(64)
fn merge(@builtin(workgroup_id) group : vec3u, @builtin(local_invocation_index) lane : u32) {
  let together = SLOTS / params.k;
  for (var i = lane; i < SLOTS; i += LANES) {
    let list = group.x * together + i / params.k;
    let used = i / params.k < together && list < params.inLists;
    let at = (group.y * params.inLists + select(0u, list, used)) * 2u * params.k + i % params.k;
    distances[i] = select(FAR, lists[at], used);
    rows[i] = select(NOBODY, lists[at + params.k], used);
  }
  sortAndWrite(lane, group.y, group.x);
}
