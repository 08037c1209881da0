// What PEFT stores of the base beside an adapter: the layer below a LoRA on embedding or head, tables after a vocabulary was resized,
// single rows. Called by attach.cpp.
#pragma once
#include "loraine/adapters/attach.h"
#include "loraine/adapters/peft_files.h"
#include "loraine/model/model.h"

namespace loraine {

// Tensors of the base that the file holds though the config names them nowhere (save_embedding_layers, which PEFT switches on by itself
// after a vocabulary was resized) go to set.beside: PEFT puts them in the base's place.
void find_beside(AdapterSet& set, const Model& model, const LoraConfig& config, const TensorSource& source);
// PEFT's trainable_token_indices: rows of embedding or head, with the base's values, into set.token_rows. In a tied model those of the
// embedding are the head's too, unless that has ids of its own. Throws unsupported for other modules, usage for ids that the model does not
// have.
void attach_token_rows(AdapterSet& set, const Model& model, const LoraConfig& config, bool trained);
// Whether embedding and head, tied in the base, stay one table with these rows.
bool shares_token_rows(const AdapterSet& set, const Model& model, const LoraConfig& config);
// Reads set.beside, and lays set.token_rows into their tables, which set.dense has: a tensor that differs from the model's is used in its
// place (attach_dense). Throws bad_data where shapes differ or values are not finite; unsupported where the adapter is trained and has
// whole tensors of its own.
void read_beside(AdapterSet& set, const Model& model, const AdapterFile& file, bool trained);

}  // namespace loraine
