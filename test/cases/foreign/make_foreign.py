"""Files of PyTorch and numpy for the tests of the loaders. Written once by PyTorch 1.13.1 and numpy 1.24.2 (Debian 12): python3 make_foreign.py FOLDER"""
import collections, json, sys
import numpy as np
import torch
out = sys.argv[1]
rng = np.random.RandomState(7)

def values(*shape):
    return np.round(rng.standard_normal(shape) * 64) / 64

state = collections.OrderedDict()
state['conv2d_1a.conv.weight'] = torch.tensor(values(4, 3, 3, 2), dtype=torch.float32)
state['conv2d_1a.bn.running_var'] = torch.nn.Parameter(torch.tensor(values(4), dtype=torch.float32))
state['conv2d_1a.bn.num_batches_tracked'] = torch.tensor(12345678901)
state['half'] = torch.tensor(values(5)).half()
state['bfloat16'] = torch.tensor(values(5)).bfloat16()
state['double'] = torch.tensor(values(2, 2), dtype=torch.float64)
state['bytes'] = torch.tensor([0, 1, 255], dtype=torch.uint8)
state['chars'] = torch.tensor([-128, 0, 127], dtype=torch.int8)
state['ints'] = torch.tensor([-7, 2**31 - 1], dtype=torch.int32)
state['flags'] = torch.tensor([True, False, True])
big = torch.tensor(values(6, 5), dtype=torch.float32)
state['transposed'] = big.t()
state['slice'] = big[1:5:2, 1:4]
state['shared'] = big
state['scalar'] = torch.tensor(2.5)
state['empty'] = torch.zeros(0, 3)
state['__proto__'] = torch.tensor([1.0])
torch.save(state, f'{out}/state.pt')
torch.save(state, f'{out}/state-older.pt', _use_new_zipfile_serialization=False)
torch.save({'epoch': 3, 'state_dict': {'a': big, 'b': state['scalar']}, 'optimizer': [1, 2.5, 'x', None]}, f'{out}/checkpoint.pt')
torch.save(torch.nn.Linear(2, 2), f'{out}/module.pt')
torch.save({'nested': {'deep': {'w': torch.ones(2)}}, 'v': torch.zeros(1)}, f'{out}/nested.pt')
expected = {k: {'shape': list(v.shape), 'values': [float(x) for x in v.detach().to(torch.float64).reshape(-1)]} for k, v in state.items() if k != 'conv2d_1a.bn.num_batches_tracked'}
json.dump(expected, open(f'{out}/state.json', 'w'))

arrays = {
    'f4': values(2, 3).astype('<f4'), 'f8': values(3).astype('<f8'), 'f2': values(4).astype('<f2'), 'big': values(2, 2).astype('>f4'),
    'u1': np.array([[1, 2], [3, 255]], 'u1'), 'i1': np.array([-1, 5], 'i1'), 'i4': np.array(-9, '<i4'), 'i8': np.array([2**53 + 1], '<i8'),
    'b1': np.array([True, False]), 'fortran': np.asfortranarray(values(3, 2).astype('<f4')), 'empty': np.zeros((0, 4), '<f4'),
    'big8': np.array([2**40, -1], '>i8'),
}
for k, v in arrays.items():
    np.save(f'{out}/{k}.npy', v)
np.savez(f'{out}/stored.npz', **arrays)
np.savez_compressed(f'{out}/deflated.npz', **arrays)
json.dump({k: {'shape': list(v.shape), 'values': [int(x) if v.dtype.kind in 'iub' else float(x) for x in v.reshape(-1)] if k not in ('i8', 'big8') else [str(x) for x in v.reshape(-1)]} for k, v in arrays.items()}, open(f'{out}/arrays.json', 'w'))
# As davidsandberg/facenet keeps MTCNN: a dictionary of dictionaries of arrays, pickled into a .npy.
mtcnn = {'conv1': {'weights': values(3, 3, 3, 2).astype('f4'), 'biases': values(2).astype('f4')}, 'PReLU1': {'alpha': np.asfortranarray(values(2, 2).astype('f4'))}, 'big': {'w': values(2).astype('>f4')}}
box = np.empty((), object)
box[()] = mtcnn
for protocol in (2, 3, 4):
    with open(f'{out}/dictionary-{protocol}.npy', 'wb') as f:
        np.lib.format.write_array_header_1_0(f, np.lib.format.header_data_from_array_1_0(box))
        import pickle
        pickle.dump(box, f, protocol=protocol)
json.dump({f'{a}/{b}': {'shape': list(w.shape), 'values': [float(x) for x in w.reshape(-1)]} for a, d in mtcnn.items() for b, w in d.items()}, open(f'{out}/dictionary.json', 'w'))
class Evil:
    def __reduce__(self):
        import os
        return (os.system, ('touch evil',))
box[()] = {'x': Evil()}
np.save(f'{out}/evil.npy', box, allow_pickle=True)
torch.save({'x': Evil()}, f'{out}/evil.pt')
