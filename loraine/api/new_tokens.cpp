// From keys to tokens of tokenizer.json and rows of the embedding.
#include "loraine/api/new_tokens.h"

#include <fmt/format.h>
#include <yaml-cpp/yaml.h>

#include <algorithm>

#include "loraine/io/files/durable_file.h"
#include "loraine/io/grown_vocabulary.h"

namespace loraine {
namespace {

struct Described {
  std::string token, description;
};

// The file of new_special_tokens_config: a map of token to description.
std::vector<Described> read_descriptions(const std::string& path) {
  const auto bad = [&](const std::string& what) -> Error {
    return Error(ErrorKind::usage, fmt::format("new_special_tokens_config {}: {}", path, what),
                 "write a line for each token: \"<token>\": \"what it stands for\"");
  };
  std::vector<Described> all;
  try {
    const YAML::Node map = YAML::Load(read_file(path, 1 << 20));
    if (!map.IsMap() || map.size() == 0) throw bad("is no map of token to description");
    for (const auto& entry : map) {
      if (!entry.first.IsScalar() || !entry.second.IsScalar()) throw bad("a token or a description is not a text");
      all.push_back({entry.first.Scalar(), entry.second.Scalar()});
      if (all.back().token.empty() || all.back().description.empty()) throw bad("a token or a description is empty");
    }
  } catch (const YAML::Exception& e) { throw bad(fmt::format("line {}: {}", e.mark.line + 1, e.msg)); }
  return all;
}

}  // namespace

bool adds_tokens(const TrainConfig& c) { return c.resize_vocab || c.add_tokens || c.add_special_tokens || c.new_special_tokens_config; }

std::string add_new_tokens(ModelFiles& files, ModelText& text, const TrainConfig& c, int64_t more) {
  if (!adds_tokens(c)) return "";
  if (!text.tokenizer) throw no_tokenizer(files);
  const std::vector<Described> described =
      c.new_special_tokens_config ? read_descriptions(*c.new_special_tokens_config) : std::vector<Described>();
  std::vector<std::string> special = split_list(c.add_special_tokens);
  for (const Described& one : described) special.push_back(one.token);
  NewRows rows;
  rows.seed = static_cast<uint64_t>(c.seed);
  rows.noise_on_described = c.init_special_tokens == "desc_init_w_noise";
  int64_t count = 0;
  const int64_t before = embedding_rows(files);
  const auto add = [&](const std::string& token, bool is_special) {
    if (text.tokenizer->token_to_id(token)) return;  // it is there already, and its row with it
    const int32_t id = text.tokenizer->add_token(token, is_special);
    ++count;
    if (id < before) rows.ids.push_back(id);
    for (const Described& one : described)
      if (one.token == token && c.init_special_tokens != "noise_init") rows.described[id] = text.tokenizer->encode(one.description, false);
  };
  for (const std::string& token : split_list(c.add_tokens)) add(token, false);
  for (const std::string& token : special) add(token, true);
  if (count > 0) {
    files.tokenizer_json = with_new_tokens(*files.tokenizer_json, text.tokenizer->new_tokens());
    text = open_text(files);
  }
  const int64_t tokens = text.tokenizer->vocab_size() + (c.resize_vocab ? more : 0);
  rows.rows = tokens > before ? (tokens + 63) / 64 * 64 : before;
  if (rows.rows == before && rows.ids.empty()) return fmt::format("the embedding's {} rows are enough for {} tokens", before, tokens);
  if (files.tensors) grow_vocabulary(files, rows);
  else files.config["vocab_size"] = rows.rows;
  return fmt::format("{} new tokens; the embedding has {} rows{}", count, rows.rows,
                     rows.rows > before ? fmt::format(" in the place of {}", before) : "");
}

}  // namespace loraine
