// See sentencepiece_tokenizer.h.
#include "loraine/io/vocabulary/sentencepiece_tokenizer.h"

#include <fmt/format.h>

#include <algorithm>
#include <set>
#include <unordered_map>

#include "loraine/core/base64.h"
#include "loraine/core/error.h"

namespace loraine {
namespace {

constexpr const char* kSpace = "\xE2\x96\x81";  // ▁

Json plain(const char* text) { return {{"String", text}}; }
Json regex(const char* text) { return {{"Regex", text}}; }

size_t characters(std::string_view text) {
  return static_cast<size_t>(
      std::count_if(text.begin(), text.end(), [](char c) { return (static_cast<unsigned char>(c) & 0xC0u) != 0x80; }));
}

// Every split of a piece into two pieces is a merge: highest score first, then the longest left part, as transformers orders them.
TokenMerges merges_of(const SentencePieceFile& file, bool all_types) {
  struct Scored {
    std::pair<std::string, std::string> merge;
    float score;
    size_t left, right;  // in characters
  };
  std::unordered_map<std::string_view, size_t> ids;
  const auto merges = [&](const Piece& piece) { return all_types || piece.type == PieceType::normal; };
  for (size_t id = 0; id < file.pieces.size(); ++id)
    if (merges(file.pieces[id])) ids.emplace(file.pieces[id].text, id);
  std::vector<Scored> all;
  for (const Piece& piece : file.pieces) {
    if (!merges(piece)) continue;
    const std::string_view text = piece.text;
    for (size_t cut = 1; cut < text.size(); ++cut) {
      const std::string_view left = text.substr(0, cut), right = text.substr(cut);
      if ((static_cast<unsigned char>(right[0]) & 0xC0u) == 0x80 || !ids.contains(left) || !ids.contains(right)) continue;
      all.push_back({{std::string(left), std::string(right)}, piece.score, characters(left), characters(right)});
    }
  }
  std::stable_sort(all.begin(), all.end(), [](const Scored& a, const Scored& b) {
    return std::tie(a.score, a.left, a.right) > std::tie(b.score, b.left, b.right);
  });
  TokenMerges out;
  out.reserve(all.size());
  for (Scored& scored : all) out.push_back(std::move(scored.merge));
  return out;
}

// The user-defined pieces, longest first, as alternatives of a regex.
std::string user_defined_pattern(const SentencePieceFile& file) {
  std::vector<std::string> pieces;
  for (const Piece& piece : file.pieces)
    if (piece.type == PieceType::user_defined) pieces.push_back(piece.text);
  std::stable_sort(pieces.begin(), pieces.end(), [](const auto& a, const auto& b) { return characters(a) > characters(b); });
  std::string pattern;
  for (const std::string& piece : pieces) {
    if (!pattern.empty()) pattern += '|';
    for (char c : piece) {
      if (std::string_view("\\^$.[]|()?*+{}-#&~").find(c) != std::string_view::npos) pattern += '\\';
      pattern += c;
    }
  }
  return pattern;
}

void set_sentencepiece_rules(TokenizerParts& parts, const SentencePieceFile& file) {
  Json normalizers = Json::array(), cuts = Json::array(), decoders = Json::array({json_replace(plain(kSpace), " ")});
  if (!file.character_map.empty())
    normalizers.push_back({{"type", "Precompiled"}, {"precompiled_charsmap", to_base64(file.character_map)}});
  if (file.remove_extra_whitespaces) {
    normalizers.push_back(json_replace(regex(R"(\A +| +\z)"), ""));
    normalizers.push_back(json_replace(regex(" {2,}"), " "));
  }
  if (file.escape_whitespaces) normalizers.push_back(json_replace(plain(" "), kSpace));
  if (file.add_dummy_prefix) {
    normalizers.push_back(json_replace(regex("\\A\xE2\x96\x81"), "\xE2\x96\x81\xE2\x96\x81"));  // Metaspace would take it for the prefix
    cuts.push_back({{"type", "Metaspace"}, {"replacement", kSpace}, {"prepend_scheme", "always"}, {"split", false}});
  }
  if (const std::string pattern = user_defined_pattern(file); !pattern.empty()) cuts.push_back(json_split(pattern.c_str(), "Isolated"));
  if (file.byte_fallback) decoders.push_back({{"type", "ByteFallback"}});
  if (file.byte_fallback || file.add_dummy_prefix) decoders.push_back({{"type", "Fuse"}});
  if (file.add_dummy_prefix) decoders.push_back({{"type", "Strip"}, {"content", " "}, {"start", 1}, {"stop", 0}});
  parts.normalizer = json_sequence("normalizers", normalizers);
  if (!cuts.empty()) parts.pre_tokenizer = json_sequence("pretokenizers", cuts);
  parts.decoder = json_sequence("decoders", decoders);
}

void set_class_rules(TokenizerParts& parts, const PieceUse& use) {
  const bool prefix = use.rules != PieceRules::gemma && use.add_prefix_space;
  Json decoders = Json::array({json_replace(plain(kSpace), " "), {{"type", "ByteFallback"}}, {{"type", "Fuse"}}});
  if (prefix) decoders.push_back({{"type", "Strip"}, {"content", " "}, {"start", 1}, {"stop", 0}});
  parts.decoder = json_sequence("decoders", decoders);
  if (use.rules == PieceRules::gemma) {
    parts.normalizer = json_replace(plain(" "), kSpace);
    parts.pre_tokenizer = {{"type", "Split"}, {"pattern", plain(" ")}, {"behavior", "MergedWithPrevious"}, {"invert", false}};
  } else if (use.rules == PieceRules::llama) {
    parts.pre_tokenizer = {
        {"type", "Metaspace"}, {"replacement", kSpace}, {"prepend_scheme", prefix ? "first" : "never"}, {"split", false}};
  } else {
    Json normalizers = Json::array();
    if (prefix) normalizers.push_back({{"type", "Prepend"}, {"prepend", kSpace}});
    normalizers.push_back(json_replace(plain(" "), kSpace));
    parts.normalizer = json_sequence("normalizers", normalizers);
  }
}

}  // namespace

void rename_pieces(SentencePieceFile& file, const PieceUse& use) {
  std::set<std::string> kept;
  for (size_t id = 0; id < file.pieces.size(); ++id)
    if (!use.renamed.contains(static_cast<int64_t>(id))) kept.insert(file.pieces[id].text);
  for (const auto& [id, name] : use.renamed)
    if (id >= 0 && static_cast<size_t>(id) < file.pieces.size() && !name.empty() && !kept.contains(name))
      file.pieces[static_cast<size_t>(id)].text = name;
  if (use.rules != PieceRules::gemma || kept.contains("\t")) return;
  for (Piece& piece : file.pieces)  // Gemma 1's file lacks the tab
    if (piece.text == "<0x09>") piece.text = "\t";
}

TokenizerParts sentencepiece_parts(const SentencePieceFile& file, const PieceUse& use, const std::string& name) {
  if (file.model_type != 1 && file.model_type != 2)
    throw Error(ErrorKind::bad_data,
                fmt::format("{}: is a SentencePiece model of type {}, expected Unigram (1) or BPE (2)", name, file.model_type),
                "give the model with its tokenizer.json");
  if (file.whitespace_as_suffix)
    throw Error(ErrorKind::bad_data, name + ": puts the mark of a space behind words (treat_whitespace_as_suffix), which is not known here",
                "give the model with its tokenizer.json");
  const bool own = use.rules == PieceRules::sentencepiece, byte_fallback = !own || file.byte_fallback;
  TokenizerParts parts;
  if (file.model_type == 1) {
    parts.model = {{"type", "Unigram"}, {"unk_id", file.unk_id}, {"byte_fallback", byte_fallback}};
    for (const Piece& piece : file.pieces) parts.scores.emplace_back(piece.text, static_cast<double>(piece.score));
  } else {
    const bool has_user_defined =
        std::any_of(file.pieces.begin(), file.pieces.end(), [](const Piece& piece) { return piece.type == PieceType::user_defined; });
    parts.model = {{"type", "BPE"},
                   {"dropout", nullptr},
                   {"unk_token", file.pieces[static_cast<size_t>(file.unk_id)].text},
                   {"continuing_subword_prefix", nullptr},
                   {"end_of_word_suffix", nullptr},
                   {"fuse_unk", true},
                   {"byte_fallback", byte_fallback},
                   {"ignore_merges", own && has_user_defined}};
    for (const Piece& piece : file.pieces) parts.ids.emplace_back(piece.text, static_cast<int64_t>(parts.ids.size()));
    parts.merges = merges_of(file, !own);
  }
  if (own) set_sentencepiece_rules(parts, file);
  else set_class_rules(parts, use);
  return parts;
}

Json sentencepiece_added_tokens(const SentencePieceFile& file, const PieceUse& use) {
  Json tokens = Json::array();
  for (size_t id = 0; id < file.pieces.size(); ++id) {
    const auto& [text, score, type] = file.pieces[id];
    const bool user_defined = type == PieceType::user_defined;
    if (type != PieceType::control && !(user_defined && use.rules != PieceRules::sentencepiece)) continue;
    const bool turn = use.rules == PieceRules::gemma && (text == "<start_of_turn>" || text == "<end_of_turn>");
    tokens.push_back({{"id", id},
                      {"content", text},
                      {"single_word", false},
                      {"lstrip", false},
                      {"rstrip", false},
                      {"normalized", false},
                      {"special", !user_defined || turn}});
  }
  return tokens;
}

}  // namespace loraine
