// See command_check.h.
#include "loraine/rollouts/checks/command_check.h"

#include <fmt/format.h>

#include <cmath>
#include <limits>

#include "loraine/rollouts/checks/child_process.h"

namespace loraine {
namespace {

using LineJson = nlohmann::ordered_json;
constexpr size_t kMostWritten = 64u << 20;

const char* role_word(Role role) {
  if (role == Role::user) return "user";
  if (role == Role::assistant) return "assistant";
  return role == Role::observation ? "tool" : "function_call";
}

std::string line_of(const JudgedAnswer& answer) {
  const Conversation& asked = answer.asked->conversation;
  LineJson messages = LineJson::array();
  if (!asked.system.empty()) messages.push_back({{"role", "system"}, {"content", asked.system}});
  for (const Message& message : asked.messages) messages.push_back({{"role", role_word(message.role)}, {"content", message.content}});
  LineJson line = {{"prompt", asked.messages.back().content}, {"messages", messages}, {"completion", answer.text}};
  line["reference"] = answer.asked->reference ? LineJson(*answer.asked->reference) : LineJson();
  return line.dump(-1, ' ', false, LineJson::error_handler_t::replace) + "\n";
}

class CommandCheck : public RewardCheck {
 public:
  explicit CommandCheck(CheckFields& fields) : place_(fields.place()), timeout_(fields.number("timeout", 60)) {
    const LineJson* command = fields.value("command");
    if (!command) throw fields.missing("command", "[python3, judge.py]");
    if (command->is_string()) words_ = {"/bin/sh", "-c", command->get<std::string>()};
    else if (command->is_array())
      for (const LineJson& word : *command) {
        if (!word.is_string() && !word.is_number()) throw fields.wrong("command", "a list of words, or a line for the shell");
        words_.push_back(word.is_string() ? word.get<std::string>() : word.dump());
      }
    if (words_.empty() || words_[0].empty()) throw fields.wrong("command", "a list of words, or a line for the shell");
    if (timeout_ <= 0 || timeout_ > 86400) throw fields.wrong("timeout", "seconds above 0, at most a day");
    shown_ = command->is_string() ? command->get<std::string>() : command->dump();
  }

  std::vector<double> judge(Context& /*ctx*/, std::span<const JudgedAnswer> answers) override {
    std::string input;
    for (const JudgedAnswer& answer : answers) input += line_of(answer);
    const ChildResult result = run_child(words_, input, timeout_, kMostWritten);
    if (result.timed_out && result.out.size() + result.errors.size() > kMostWritten)
      fail("it wrote more than 64 MiB", result, "let it write one number for each line that it reads");
    if (result.timed_out)
      fail(fmt::format("it did not judge {} answers within {} seconds", answers.size(), timeout_), result,
           "raise its timeout, or make it faster");
    if (result.code != 0)
      fail(result.code > 128 ? fmt::format("it was ended by signal {}", result.code - 128)
                             : fmt::format("it ended with exit code {}", result.code),
           result, "run it by hand with a line of {\"prompt\", \"messages\", \"completion\", \"reference\"} on its standard input");
    return rewards_in(result, answers.size());
  }

 private:
  [[noreturn]] void fail(const std::string& what, const ChildResult& result, const std::string& hint) const {
    std::string errors = result.errors.size() > 600 ? "…" + result.errors.substr(result.errors.size() - 600) : result.errors;
    while (!errors.empty() && errors.back() == '\n') errors.pop_back();
    throw Error(ErrorKind::bad_data,
                fmt::format("{}: command {}: {}{}", place_, shown_.substr(0, 200), what, errors.empty() ? "" : "; its errors: " + errors),
                hint);
  }

  std::vector<double> rewards_in(const ChildResult& result, size_t count) const {
    std::vector<double> rewards;
    for (size_t start = 0, line = 1; start < result.out.size(); ++line) {
      const size_t end = std::min(result.out.find('\n', start), result.out.size());
      const std::string text = result.out.substr(start, end - start);
      start = end + 1;
      if (text.find_first_not_of(" \t\r") == std::string::npos) continue;
      LineJson value = LineJson::parse(text, nullptr, false);
      if (value.is_object() && value.contains("reward")) {
        const LineJson reward = value["reward"];
        value = reward;
      }
      if (!value.is_number() && !value.is_null())
        fail(
            fmt::format("line {} of what it wrote is '{}', expected a number, null or {{\"reward\": a number}}", line, text.substr(0, 100)),
            result, "let it write nothing else to its standard output");
      rewards.push_back(value.is_null() ? std::numeric_limits<double>::quiet_NaN() : value.get<double>());
      if (!value.is_null() && !std::isfinite(rewards.back())) fail(fmt::format("line {} is no finite number", line), result, "");
    }
    if (rewards.size() != count)
      fail(fmt::format("it read {} answers and wrote {} numbers", count, rewards.size()), result,
           "let it write a line for each line that it reads");
    return rewards;
  }

  std::string place_, shown_;
  std::vector<std::string> words_;
  double timeout_;
};

}  // namespace

std::unique_ptr<RewardCheck> command_check(CheckFields& fields) { return std::make_unique<CommandCheck>(fields); }

}  // namespace loraine
