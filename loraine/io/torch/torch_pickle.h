// The pickle inside torch's .bin files, read by a machine that runs nothing: it knows the few opcodes and names a state dict is made of,
// and builds descriptions of tensors from them. Used by torch_file; formats as in torch/serialization.py and Python's pickletools.
#pragma once
#include <cstdint>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <vector>

#include "loraine/core/dtype.h"
#include "loraine/io/safetensors/safetensors_layout.h"

namespace loraine {

struct PickledTensor {
  std::string name;
  Dtype dtype = Dtype::F32;
  std::string storage;                 // names the archive's entry data/STORAGE
  int64_t storage_elements = 0;        // the pickle's word for it, to be checked against the entry
  int64_t offset = 0;                  // elements
  std::vector<int64_t> shape, stride;  // elements; every index lies within storage_elements, and there are no more indices than those
};

// A state dict: tensors by name, in the order of the file. bad_data names `file` and the opcode, global or value that is not part of one.
std::vector<PickledTensor> read_state_dict(const std::string& file, const unsigned char* data, size_t size);

// The same of dictionaries and lists within each other, as torch saves the state of an optimizer: the tensors, named by the way to them
// ("state.0.exp_avg"), and in `values` everything, null in the place of a tensor; a number as a key
// becomes text, and so does a type ("float16"), a shape a list.
std::vector<PickledTensor> read_nested_state(const std::string& file, const unsigned char* data, size_t size, nlohmann::json& values);

// The pickle of an OrderedDict of contiguous tensors, each with a storage of its own named by its index; loads with weights_only=True.
std::string write_state_dict(const std::vector<SafetensorsEntry>& entries);

}  // namespace loraine
