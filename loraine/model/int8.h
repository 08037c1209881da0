// The frozen linear layers of a model in int8 (frozen_matmul: int8). Called by every command that opens a model, after what starts from the
// base's values.
#pragma once
#include "loraine/model/model.h"

namespace loraine {

// Rounds the weights of all blocks to INT8, one after the other; mapped ones leave memory, and those that are INT8 already keep their
// codes. Their products are whole numbers from here on (Weight::integer_products). Embedding, head, norms and biases stay as they are.
// Throws bad_data when a mapped file has been cut.
void blocks_to_int8(Model& model);
// Bytes that steps of `rows` rows take beside such weights: rounded activations, and what of the embedding and the head is read from the
// file again where its check has let it go (Model::read_once).
size_t int8_bytes(const Model& model, int64_t rows);

}  // namespace loraine
