// torch's .bin files (torch.save of a state dict, torch 1.6 and later): reader and writer. Used for adapter_model.bin and
// pytorch_model.bin; nothing in such a file is run.
#pragma once
#include <functional>
#include <memory>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <vector>

#include "loraine/io/safetensors/safetensors_layout.h"
#include "loraine/io/tensors/tensor_source.h"

namespace loraine {

// The checksum of a storage is looked at when the first of its tensors is mapped or read.
std::unique_ptr<TensorSource> open_torch_file(const std::string& file);
// The same of what torch.save made of an optimizer's state_dict(): tensors are named by the way to them ("state.0.exp_avg"), `values` gets
// everything else (torch_pickle.h).
std::unique_ptr<TensorSource> open_torch_state(const std::string& file, nlohmann::json& values);

// Calls `produce(index, write)` once per entry, in their order; it must write exactly the bytes of entries[index].
void stream_torch_file(const std::string& file, const std::vector<SafetensorsEntry>& entries,
                       const std::function<void(size_t index, const WriteBytes& write)>& produce);

}  // namespace loraine
