// The frozen linear layers of a model in int8 (frozen_matmul: int8). Called by every command that opens a model, after what starts from the
// base's values.
#pragma once
#include "loraine/model/model.h"

namespace loraine {

// Rounds the weights of all blocks to INT8, one after the other; mapped ones leave memory, and those that are INT8 already keep their
// codes. Their products are whole numbers from here on (Weight::integer_products). Embedding, head, norms and biases stay as they are.
// Throws bad_data when a mapped file has been cut.
void blocks_to_int8(Model& model);
// The same for a model that is asked, not trained: sites of a GGUF whose parts all lie in block types of ggml stay as they lie there, the
// head among them, and what they are multiplied with is rounded to 8 bits by blocks of 32 (kernels/products/packed_int8_products.h).
// Returns how many there are.
int64_t layers_to_integers(Model& model);
// Bytes that steps of `rows` rows take beside such weights: rounded activations, and what of the embedding and the head is read from the
// file again where its check has let it go (Model::read_once).
size_t int8_bytes(const Model& model, int64_t rows);

}  // namespace loraine
