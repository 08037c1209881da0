// The end of an answer, family by family: training teaches it, and generation stops at it. With the model's own chat template (its shape;
// the marks are those of the published ones) and with LLaMA-Factory's named ones.
#include "loraine/data/templates/end_of_turn.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <nlohmann/json.hpp>
#include <set>

#include "loraine/core/batch.h"
#include "loraine/core/error.h"
#include "loraine/data/encode/row_encoder.h"

namespace loraine::end_of_turn_test {
namespace {

using Json = nlohmann::ordered_json;
using Words = std::vector<std::string>;

// Every byte a token, and these special ones behind them.
std::unique_ptr<Tokenizer> tokenizer_with(const Words& marks) {
  const std::set<std::string> special(marks.begin(), marks.end());
  Json vocab = Json::object(), added = Json::array();
  for (int byte = 0, more = 256; byte < 256; ++byte) {  // as GPT-2 spells bytes
    const bool kept = (byte >= '!' && byte <= '~') || (byte >= 0xA1 && byte <= 0xAC) || byte >= 0xAE;
    const int code = kept ? byte : more++;
    std::string letter;
    if (code < 0x80) letter = static_cast<char>(code);
    else letter = {static_cast<char>(0xC0 | code >> 6), static_cast<char>(0x80 | (code & 0x3F))};
    vocab[letter] = byte;
  }
  for (const std::string& word : special)
    added.push_back({{"id", 256 + added.size()},
                     {"content", word},
                     {"special", true},
                     {"single_word", false},
                     {"lstrip", false},
                     {"rstrip", false},
                     {"normalized", false}});
  const Json level = {{"type", "ByteLevel"}, {"add_prefix_space", false}, {"trim_offsets", true}, {"use_regex", true}};
  const Json json = {{"version", "1.0"},
                     {"truncation", nullptr},
                     {"padding", nullptr},
                     {"added_tokens", added},
                     {"normalizer", nullptr},
                     {"pre_tokenizer", level},
                     {"post_processor", nullptr},
                     {"decoder", level},
                     {"model",
                      {{"type", "BPE"},
                       {"dropout", nullptr},
                       {"unk_token", nullptr},
                       {"continuing_subword_prefix", nullptr},
                       {"end_of_word_suffix", nullptr},
                       {"fuse_unk", false},
                       {"byte_fallback", false},
                       {"vocab", vocab},
                       {"merges", Json::array()}}}};
  return Tokenizer::from_json(json.dump(), "test");
}

struct Family {
  std::string types;  // model_types of docs/families.md, and the models where they differ
  Words named;        // LLaMA-Factory's templates for them
  std::string begin, question, between, behind,
      last;          // the published template: begin, question marks, head of the answer, its end; `last`: instead, of the last answer
  std::string eos;   // of tokenizer_config.json
  std::string ends;  // what ends an answer, where the template writes it
  Words also = {};   // what else ends one
};

std::string head_of(const char* role) { return std::string("<|im_start|>") + role + "\n"; }

std::vector<Family> families() {
  const std::string im_end = "<|im_end|>", chatml = head_of("user"), chatml_answer = im_end + "\n" + head_of("assistant");
  const auto chatml_of = [&](const std::string& types, const Words& named, const std::string& eos, const std::string& begin = "") {
    return Family{types, named, begin, chatml, chatml_answer, im_end + "\n", "", eos, im_end};
  };
  return {
      {"llama (2), mistral", {"llama2", "mistral"}, "<s>", "[INST] ", " [/INST]", "</s>", "", "</s>", "</s>"},
      {"llama (3)",
       {"llama3"},
       "<|begin_of_text|>",
       "<|start_header_id|>user<|end_header_id|>\n\n",
       "<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\n",
       "<|eot_id|>",
       "",
       "<|end_of_text|>",
       "<|eot_id|>"},
      {"llama4_text",
       {"llama4"},
       "<|begin_of_text|>",
       "<|header_start|>user<|header_end|>\n\n",
       "<|eot|><|header_start|>assistant<|header_end|>\n\n",
       "<|eot|>",
       "",
       "<|end_of_text|>",
       "<|eot|>"},
      {"ministral, ministral3, mistral4",
       {"ministral", "ministral3", "mistral_small"},
       "<s>",
       "[INST]",
       "[/INST]",
       "</s>",
       "",
       "</s>",
       "</s>"},
      chatml_of("qwen2, qwen2_moe, qwen3, qwen3_moe, qwen3_next", {"qwen", "qwen3", "qwen3_nothink"}, "<|endoftext|>"),
      chatml_of("qwen3_5_text, qwen3_5_moe_text", {"qwen3_5", "qwen3_5_nothink", "qwen3_6"}, im_end),
      chatml_of("internlm3, smollm3, olmo3, olmo_hybrid", {"intern2", "smollm2"}, im_end),
      chatml_of("lfm2, lfm2_moe", {"lfm2"}, im_end, "<|startoftext|>"),
      chatml_of("falcon_h1", {"falcon_h1"}, "<|end_of_text|>"),
      chatml_of("minicpm3", {"cpm4"}, im_end),
      {"phi3 (4)",
       {"phi4"},
       "",
       "<|im_start|>user<|im_sep|>",
       "<|im_end|><|im_start|>assistant<|im_sep|>",
       im_end,
       "",
       "<|endoftext|>",
       im_end},
      {"phi3, phimoe",
       {"phi", "phi_small"},
       "",
       "<|user|>\n",
       "<|end|>\n<|assistant|>\n",
       "<|end|>\n",
       "<|end|>\n<|endoftext|>",
       "<|endoftext|>",
       "<|end|>"},
      {"phi3 (4-mini)",
       {"phi4_mini"},
       "",
       "<|user|>",
       "<|end|><|assistant|>",
       "<|end|>",
       "<|end|><|endoftext|>",
       "<|endoftext|>",
       "<|end|>"},
      {"gemma, gemma2, gemma3_text",
       {"gemma", "gemma2", "gemma3", "gemma3n"},
       "<bos>",
       "<start_of_turn>user\n",
       "<end_of_turn>\n<start_of_turn>model\n",
       "<end_of_turn>\n",
       "",
       "<eos>",
       "<end_of_turn>"},
      {"gemma4_text", {"gemma4"}, "<bos>", "<|turn>user\n", "<turn|>\n<|turn>model\n", "<turn|>\n", "", "<eos>", "<turn|>"},
      {"granite, granitemoe, granitemoeshared, granitemoehybrid, granite_swa",
       {"granite3", "granite4"},
       "",
       "<|start_of_role|>user<|end_of_role|>",
       "<|end_of_text|>\n<|start_of_role|>assistant<|end_of_role|>",
       "<|end_of_text|>\n",
       "",
       "<|end_of_text|>",
       "<|end_of_text|>"},
      {"olmo, olmo2, olmoe",
       {"olmo"},
       "<|endoftext|>",
       "<|user|>\n",
       "\n<|assistant|>\n",
       "<|endoftext|>\n",
       "<|endoftext|>",
       "<|endoftext|>",
       "<|endoftext|>"},
      {"cohere, cohere2",
       {"cohere"},
       "<BOS_TOKEN>",
       "<|START_OF_TURN_TOKEN|><|USER_TOKEN|>",
       "<|END_OF_TURN_TOKEN|><|START_OF_TURN_TOKEN|><|CHATBOT_TOKEN|>",
       "<|END_OF_TURN_TOKEN|>",
       "",
       "<|END_OF_TURN_TOKEN|>",
       "<|END_OF_TURN_TOKEN|>"},
      {"glm, glm4, glm4_moe, glm4_moe_lite",
       {"glm4", "glmz1", "glm4_moe", "glm4_7"},
       "[gMASK]<sop>",
       "<|user|>\n",
       "<|assistant|>\n",
       "",
       "",
       "<|endoftext|>",
       "",
       {"<|user|>"}},
      {"seed_oss", {"seed_oss"}, "", "<seed:bos>user\n", "<seed:eos><seed:bos>assistant\n", "<seed:eos>", "", "<seed:eos>", "<seed:eos>"},
      {"ernie4_5, ernie4_5_moe",
       {"ernie_nothink"},
       "<|begin_of_sentence|>",
       "User: ",
       "\nAssistant: ",
       "<|end_of_sentence|>",
       "",
       "</s>",
       "<|end_of_sentence|>"},
      {"hunyuan_v1_dense", {"hunyuan_small"}, "<|bos|>", "<|hy_user|>", "<|hy_assistant|>", "<|hy_end|>", "", "<|hy_end|>", "<|hy_end|>"},
      {"hunyuan_v1_moe", {"hunyuan"}, "<|startoftext|>", "", "<|extra_0|>", "<|eos|>", "", "<|eos|>", "<|eos|>"},
      {"hy_v3", {"hy3"}, "", "<|hy_user|>", "<|hy_assistant|>", "<|hy_eos|>", "", "<|hy_eos|>", "<|hy_eos|>"},
      {"exaone4", {"exaone"}, "", "[|user|]\n", "[|endofturn|]\n[|assistant|]\n", "[|endofturn|]\n", "", "[|endofturn|]", "[|endofturn|]"},
      {"nemotron, nemotron_h",
       {},
       "<SPECIAL_10>",
       "<SPECIAL_11>User\n",
       "\n<SPECIAL_11>Assistant\n",
       "\n<SPECIAL_12>\n",
       "",
       "<SPECIAL_12>",
       "<SPECIAL_12>"},
      {"apertus", {}, "<s>", "<|user_start|>", "<|user_end|><|assistant_start|>", "<|assistant_end|>", "", "</s>", "<|assistant_end|>"},
      {"gpt_oss",
       {"gpt_oss"},
       "",
       "<|start|>user<|message|>",
       "<|end|><|start|>assistant<|channel|>final<|message|>",
       "<|end|>",
       "<|return|>",
       "<|return|>",
       "<|return|>"},
      {"minimax_m2", {"minimax2"}, "", "]~b]user\n", "[e~[\n]~b]ai\n", "[e~[\n", "", "[e~[", "[e~["},
      {"deepseek_v2, deepseek_v3",
       {"deepseek", "deepseek3", "deepseekr1"},
       "<|begin|>",
       "<|User|>",
       "<|Assistant|>",
       "<|end_of_sentence|>",
       "",
       "<|end_of_sentence|>",
       "<|end_of_sentence|>"},
      {"kimi_k2",
       {"moonlight", "kimi_vl"},
       "",
       "<|im_user|>user<|im_middle|>",
       "<|im_end|><|im_assistant|>assistant<|im_middle|>",
       im_end,
       "",
       "[EOS]",
       im_end},
      {"dots1",
       {"dots_ocr"},
       "",
       "<|userprompt|>",
       "<|endofuserprompt|><|response|>",
       "<|endofresponse|>",
       "",
       "<|endofresponse|>",
       "<|endofresponse|>"},
      {"youtu", {"youtu"}, "<|begin_of_text|>", "<|User|>", "<|Assistant|>", "<|end_of_text|>", "", "<|end_of_text|>", "<|end_of_text|>"},
      {"jamba", {}, "<|startoftext|>", "<|bom|><|user|> ", "<|eom|><|bom|><|assistant|> ", "<|eom|>", "", "<|endoftext|>", "<|eom|>"},
      {"arcee, starcoder2, stablelm, gpt_neox, gpt2, phi, helium, bamba (as they are fine-tuned)",
       {"vicuna", "alpaca", "zephyr", "default"},
       "",
       "USER: ",
       " ASSISTANT: ",
       "</s>",
       "",
       "</s>",
       "</s>"},
      {"any, with a template that writes no end", {}, "", "Q: ", "\nA: ", "\n", "", "</s>", ""},
  };
}

std::string source_of(const Family& f) {
  const auto text = [](const std::string& part) { return "{{ " + Json(part).dump() + " }}"; };
  const std::string last = f.last.empty() ? "" : "{% if loop.last and not add_generation_prompt %}" + text(f.last) + "{% else %}";
  return text(f.begin) + "{% for m in messages %}{% if m['role'] == 'user' %}" + text(f.question) + "{{ m['content'] }}" + text(f.between) +
         "{% else %}{{ m['content'] }}" + last + text(f.behind) + (last.empty() ? "" : "{% endif %}") + "{% endif %}{% endfor %}";
}

// Marks of a text: <…>, [gMASK], [e~[ and the like.
void add_marks(Words& marks, const std::string& text) {
  for (const char* mark : {"[gMASK]", "[INST]", "[/INST]", "[|user|]", "[|assistant|]", "[|endofturn|]", "[e~[", "]~b]", "[EOS]"})
    if (text.find(mark) != std::string::npos) marks.push_back(mark);
  for (size_t at = text.find('<'); at != std::string::npos; at = text.find('<', at + 1))
    if (const size_t end = text.find('>', at); end != std::string::npos) marks.push_back(text.substr(at, end + 1 - at));
}

Conversation two_turns() {
  return {{{Role::user, "one"}, {Role::assistant, "two"}, {Role::user, "three"}, {Role::assistant, "four"}}, "", ""};
}

Row row_of(const Conversation& conversation) {
  Row row;
  row.conversation = conversation;
  return row;
}

// The trained ids of the last answer, from its text on.
std::vector<int32_t> trained_behind(const Tokenizer& tokenizer, const Example& example) {
  std::vector<int32_t> trained;
  for (int32_t label : std::span<const int32_t>(example.labels))
    if (label != kIgnoreLabel) trained.push_back(label);
  const std::vector<int32_t> answer = tokenizer.encode("four");
  const auto at = std::find_end(trained.begin(), trained.end(), answer.begin(), answer.end());
  return at == trained.end() ? std::vector<int32_t>()
                             : std::vector<int32_t>(at + static_cast<std::ptrdiff_t>(answer.size()), trained.end());
}

bool holds(const std::vector<int32_t>& ids, int32_t id) { return std::find(ids.begin(), ids.end(), id) != ids.end(); }

TEST(EndOfTurn, OfEachFamilysOwnTemplate) {
  for (const Family& f : families()) {
    SCOPED_TRACE(f.types);
    Words marks = {f.eos};
    for (const std::string* part : {&f.begin, &f.question, &f.between, &f.behind, &f.last}) add_marks(marks, *part);
    const auto tokenizer = tokenizer_with(marks);
    const ChatTemplate chat(source_of(f), Json{{"eos_token", f.eos}}, "test");
    SpecialTokens special;
    special.eos = tokenizer->token_to_id(f.eos);
    special.stop = {*special.eos};
    const EndOfTurn end = end_of_turn(chat, *tokenizer, special.eos);
    EXPECT_EQ(end.written, f.ends.empty() ? std::nullopt : tokenizer->token_to_id(f.ends));
    EXPECT_EQ(end.missing, f.ends.empty());
    for (const std::string& word : f.also) EXPECT_TRUE(holds(end.stop, *tokenizer->token_to_id(word))) << word;
    if (f.types == "gpt_oss") EXPECT_FALSE(holds(end.stop, *tokenizer->token_to_id("<|end|>")));

    DataOptions options;
    const Encoder encoder = make_encoder(options, tokenizer.get(), &chat, special);
    std::vector<int32_t> behind;
    ASSERT_NO_THROW(behind = trained_behind(*tokenizer, encoder.encode(row_of(two_turns())).example));
    const int32_t wanted = f.ends.empty() ? *special.eos : *tokenizer->token_to_id(f.ends);
    EXPECT_TRUE(holds(behind, wanted)) << tokenizer->decode(behind);
    EXPECT_TRUE(holds(special.stop, wanted));
    // The prediction at the end of a run asks for the same.
    EXPECT_TRUE(holds(encoder.last_turn(two_turns()).label_ids, wanted));
  }
}

// Whichever of LLaMA-Factory's templates is named: one of the first three ids behind the answer ends it.
TEST(EndOfTurn, OfEveryNamedTemplate) {
  // Those that rely on the end token of their models.
  const std::map<std::string, std::string> eos = {{"granite3", "<|end_of_text|>"}, {"deepseekcoder", "<|EOT|>"}};
  for (const std::string& name : template_names()) {
    SCOPED_TRACE(name);
    const Template chat = named_template(name);
    Words marks = {"</s>", "<s>"};
    for (const auto* slots : {&chat.prefix, &chat.system, &chat.user, &chat.assistant, &chat.observation})
      for (const Slot& slot : *slots) {
        add_marks(marks, slot.text);
        if (slot.kind == SlotKind::token) marks.push_back(slot.text);
      }
    marks.insert(marks.end(), chat.stop_words.begin(), chat.stop_words.end());
    const auto tokenizer = tokenizer_with(marks);
    SpecialTokens special;
    special.bos = tokenizer->token_to_id("<s>");
    const auto own = eos.find(name);
    special.eos = tokenizer->token_to_id(own == eos.end() ? "</s>" : own->second);
    DataOptions options;
    options.template_name = name;
    const Encoder encoder = make_encoder(options, tokenizer.get(), nullptr, special);
    const std::vector<int32_t> behind = trained_behind(*tokenizer, encoder.encode(row_of(two_turns())).example);
    const auto stops = [&](int32_t id) { return holds(special.stop, id); };
    if (name == "empty") EXPECT_TRUE(behind.empty());  // as it says
    else
      EXPECT_TRUE(std::any_of(behind.begin(), behind.begin() + std::min<std::ptrdiff_t>(3, std::ssize(behind)), stops))
          << tokenizer->decode(behind);
  }
}

TEST(EndOfTurn, CallsEndToo) {
  const auto tokenizer = tokenizer_with({"<|call|>", "<|return|>", "<|start|>", "</s>"});
  const ChatTemplate chat(
      "{% for m in messages %}<|start|>{{ m['role'] }}:{% if m.tool_calls %}{{ m.tool_calls[0].function.arguments | tojson }}<|call|>{% "
      "else %}"
      "{{ m['content'] }}{% if m['role'] == 'assistant' %}<|return|>{% endif %}{% endif %}{% endfor %}",
      Json::object(), "test");
  const EndOfTurn end = end_of_turn(chat, *tokenizer, tokenizer->token_to_id("</s>"));
  EXPECT_EQ(end.stop, (std::vector<int32_t>{*tokenizer->token_to_id("<|return|>"), *tokenizer->token_to_id("<|call|>")}));
}

TEST(EndOfTurn, OfATemplateThatRefuses) {
  const auto tokenizer = tokenizer_with({"</s>"});
  for (const char* source : {"{{ raise_exception('no') }}", "{{ messages[0]['content'] }}", "x"}) {
    const EndOfTurn end = end_of_turn(ChatTemplate(source, Json::object(), "test"), *tokenizer, tokenizer->token_to_id("</s>"));
    EXPECT_FALSE(end.written || end.missing || !end.stop.empty()) << source;
  }
}

}  // namespace
}  // namespace loraine::end_of_turn_test
