// See embeddings_form.h.
#include "loraine/serve/protocol/embeddings_form.h"

#include <bit>
#include <cstring>

#include "loraine/core/base64.h"
#include "loraine/serve/protocol/asked.h"

namespace loraine {
namespace {

constexpr size_t kMostInputs = 2048;
static_assert(std::endian::native == std::endian::little);

std::string bytes_of(const std::vector<float>& values) {
  std::string bytes(values.size() * sizeof(float), '\0');
  std::memcpy(bytes.data(), values.data(), bytes.size());
  return bytes;
}

}  // namespace

AskedEmbeddings read_embeddings(const WireJson& body, int64_t vocab, int64_t hidden, bool strict) {
  Fields fields(body);
  AskedEmbeddings asked;
  asked.model = fields.text("model", 512).value_or("");
  asked.lora = read_lora_field(fields);
  asked.input = read_prompts(fields, "input", vocab, kMostInputs);
  const std::string format = fields.text("encoding_format").value_or("float");
  if (format != "float" && format != "base64") fields.fail("encoding_format", "float or base64");
  asked.base64 = format == "base64";
  asked.options.dimensions = fields.integer("dimensions", 1, hidden);
  const std::string pooling = fields.text("pooling").value_or("mean");
  if (pooling != "mean" && pooling != "last") fields.fail("pooling", "mean or last");
  asked.options.pooling = pooling == "last" ? Pooling::last : Pooling::mean;
  asked.add_special_tokens = fields.boolean("add_special_tokens").value_or(true);
  for (const char* unbuilt : {"truncate_prompt_tokens", "messages", "normalize"})
    if (fields.any(unbuilt)) fields.fail(unbuilt, "nothing: it is not built, and the answer would be another", "unsupported_parameter");
  asked.ignored = refuse_or_ignore(fields, body, strict);
  return asked;
}

WireJson embeddings_json(const Embeddings& embeddings, const std::string& model, int64_t tokens, bool base64) {
  WireJson data = WireJson::array();
  for (size_t i = 0; i < embeddings.size(); ++i)
    data.push_back({{"object", "embedding"},
                    {"index", i},
                    {"embedding", base64 ? WireJson(to_base64(bytes_of(embeddings[i]))) : WireJson(embeddings[i])}});
  return {
      {"object", "list"}, {"data", std::move(data)}, {"model", model}, {"usage", {{"prompt_tokens", tokens}, {"total_tokens", tokens}}}};
}

}  // namespace loraine
