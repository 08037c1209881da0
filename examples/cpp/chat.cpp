// Asks a model one question, with each of its adapters and without: chat MODEL QUESTION [NAME=ADAPTER ...]
#include <loraine/chat_model.h>

#include <cstdio>
#include <string>

int main(int argc, char** argv) {
  if (argc < 3) {
    std::fprintf(stderr, "usage: %s MODEL QUESTION [NAME=ADAPTER ...]\n", argv[0]);
    return 2;
  }
  try {
    loraine::ChatModel model({{"model_name_or_path", argv[1]}, {"do_sample", "false"}, {"max_new_tokens", "32"}});
    for (int i = 3; i < argc; ++i) {
      const std::string word = argv[i];
      const size_t equals = word.find('=');
      model.load_adapter(word.substr(0, equals), word.substr(equals + 1));
    }
    std::vector<std::string> names = model.adapters();
    names.insert(names.begin(), "base");
    for (const std::string& name : names) {
      loraine::ChatOptions options;
      options.adapter = name;
      const auto response = model.chat({{"user", argv[2]}}, options);
      std::printf("%s (%lld + %lld tokens, %s): %s\n", name.c_str(), static_cast<long long>(response[0].prompt_length),
                  static_cast<long long>(response[0].response_length), response[0].finish_reason.c_str(),
                  response[0].response_text.c_str());
    }
  } catch (const loraine::ChatError& error) {
    std::fprintf(stderr, "error: %s\n%s\n", error.what(), error.hint.c_str());
    return 1;
  }
}
