// Adapters over a model: LoRA at its linear sites, its head and its embedding, and tensors that are trained whole (PEFT's modules_to_save
// and bias; full and freeze training). Called by train, chat, export and trace.
#pragma once
#include <functional>
#include <string>
#include <vector>

#include "loraine/adapters/attach.h"
#include "loraine/adapters/start.h"
#include "loraine/model/model.h"

namespace loraine {

// Names the linear layers that "all" stands for, but for those that PEFT refuses or transformers passes by in the model's kind; gives a
// line on each name that was left out. Throws usage where the config names such a layer itself.
std::vector<std::string> name_targets(LoraConfig& config, const Model& model);

// What the config asks for, LoRA at zero (start_adapter starts it) and whole tensors with the base's values. unsupported for DoRA, AdaLoRA,
// PiSSA, OLoRA and LoftQ where they are not built: on embedding and head, DoRA also beside trained biases.
AdapterSet attach_adapter(const Model& model, const LoraConfig& config, bool trained);
// The names of the experts' parameters, which target_parameters may name.
std::vector<std::string> expert_parameters(const Model& model);
// All first values, and the base changed where the start asks for it.
void start_adapter(AdapterSet& set, Model& model, const LoraConfig& config, uint64_t seed);
// Takes s B A of `start` out of the base, as at the start of `set`, whose views follow.
void take_out_of_base(AdapterSet& set, Model& model, const AdapterSet& start);
// The adapter in a folder of PEFT's, to run with; bad_data where config, tensors and model do not fit. One that was trained over a changed
// base (PiSSA, OLoRA) comes as the adapter of twice the rank over the base as it is, so that it can be on beside others. For one of LoftQ
// the base is changed for good, as at its start: nothing else can be on over it. config_out: as the folder has it.
AdapterSet load_adapter(Model& model, const std::string& folder, LoraConfig* config_out = nullptr);
// For who is about to load several adapters side by side: throws usage when one of them is LoftQ's.
void check_side_by_side(const std::vector<std::string>& folders);
// An adapter with gradients. For one of PiSSA, OLoRA or LoftQ the base is changed as at its start.
AdapterSet load_adapter_to_train(Model& model, const std::string& folder, LoraConfig* config_out = nullptr, bool with_dropout = true);

// Copies base tensors (in F32) into set.dense, to be used in their place. `choose` gets every name of the base
// ("model.layers.0.mlp.up_proj.weight", …) and gives the name under which the tensor is saved, or an empty text to leave it. share_tied:
// with tied embeddings the head uses the trained embedding, and the name lm_head.weight is not offered; otherwise the two are independent,
// as with PEFT. without_gradient: of the base's names, those that are copied and not trained.
using ChooseTensor = std::function<std::string(const std::string& name)>;
void attach_dense(AdapterSet& set, const Model& model, const ChooseTensor& choose, bool trained, bool share_tied,
                  const std::function<bool(const std::string& name)>& without_gradient = {});

// Throws unsupported for an adapter that no merged model can hold (aLoRA).
void check_merges(const AdapterSet& set);
// Adds the adapter to the base in memory: at its sites and on experts (add_to_weight), whose codes are made anew. Throws unsupported for
// one that has whole tensors, the embedding or the head.
void merge_into_base(Model& model, const AdapterSet& set);

// Whether embedding and head are the same tensor in the model, and no longer with the set.
bool unties(const Model& model, const AdapterSet& set);

}  // namespace loraine
