/**
 * Parameters of facenet-pytorch's InceptionResnetV1 in PyTorch's layout, written down from models/inception_resnet_v1.py
 * (commit 0286fa3e1d1cf5e09a9fc65bf7fb24725f32f040), module by module; num_batches_tracked, an integer, is left out.
 */
export function facenetPytorch(dimensions: number, classes: number): [string, number[]][] {
  const list: [string, number[]][] = [];
  const basic = (name: string, input: number, output: number, height: number, width = height) => {
    list.push([`${name}.conv.weight`, [output, input, height, width]]);
    for (const part of ['weight', 'bias', 'running_mean', 'running_var']) list.push([`${name}.bn.${part}`, [output]]);
  };
  const plain = (name: string, input: number, output: number) =>
    list.push([`${name}.weight`, [output, input, 1, 1]], [`${name}.bias`, [output]]);
  basic('conv2d_1a', 3, 32, 3);
  basic('conv2d_2a', 32, 32, 3);
  basic('conv2d_2b', 32, 64, 3);
  basic('conv2d_3b', 64, 80, 1);
  basic('conv2d_4a', 80, 192, 3);
  basic('conv2d_4b', 192, 256, 3);
  for (let i = 0; i < 5; i++) {
    const name = `repeat_1.${i}`;
    basic(`${name}.branch0`, 256, 32, 1);
    basic(`${name}.branch1.0`, 256, 32, 1);
    basic(`${name}.branch1.1`, 32, 32, 3);
    basic(`${name}.branch2.0`, 256, 32, 1);
    basic(`${name}.branch2.1`, 32, 32, 3);
    basic(`${name}.branch2.2`, 32, 32, 3);
    plain(`${name}.conv2d`, 96, 256);
  }
  basic('mixed_6a.branch0', 256, 384, 3);
  basic('mixed_6a.branch1.0', 256, 192, 1);
  basic('mixed_6a.branch1.1', 192, 192, 3);
  basic('mixed_6a.branch1.2', 192, 256, 3);
  for (let i = 0; i < 10; i++) {
    const name = `repeat_2.${i}`;
    basic(`${name}.branch0`, 896, 128, 1);
    basic(`${name}.branch1.0`, 896, 128, 1);
    basic(`${name}.branch1.1`, 128, 128, 1, 7);
    basic(`${name}.branch1.2`, 128, 128, 7, 1);
    plain(`${name}.conv2d`, 256, 896);
  }
  basic('mixed_7a.branch0.0', 896, 256, 1);
  basic('mixed_7a.branch0.1', 256, 384, 3);
  basic('mixed_7a.branch1.0', 896, 256, 1);
  basic('mixed_7a.branch1.1', 256, 256, 3);
  basic('mixed_7a.branch2.0', 896, 256, 1);
  basic('mixed_7a.branch2.1', 256, 256, 3);
  basic('mixed_7a.branch2.2', 256, 256, 3);
  for (const name of ['repeat_3.0', 'repeat_3.1', 'repeat_3.2', 'repeat_3.3', 'repeat_3.4', 'block8']) {
    basic(`${name}.branch0`, 1792, 192, 1);
    basic(`${name}.branch1.0`, 1792, 192, 1);
    basic(`${name}.branch1.1`, 192, 192, 1, 3);
    basic(`${name}.branch1.2`, 192, 192, 3, 1);
    plain(`${name}.conv2d`, 384, 1792);
  }
  list.push(['last_linear.weight', [dimensions, 1792]]);
  for (const part of ['weight', 'bias', 'running_mean', 'running_var']) list.push([`last_bn.${part}`, [dimensions]]);
  list.push(['logits.weight', [classes, dimensions]], ['logits.bias', [classes]]);
  return list;
}
