// What the routes do, one function each (routes.cpp has the table). All run in the server's thread, and go to a worker for what takes time.
#pragma once
#include "loraine/serve/service.h"

namespace loraine {

// status.cpp
void get_health(Service& service, Call call);
void get_ready(Service& service, Call call);
void get_version(Service& service, Call call);
void get_metrics(Service& service, Call call);
void get_props(Service& service, Call call);
void log_request(const Call& call);  // a line to stderr
void log_line(const std::string& text);

// models.cpp: models, and adapters in four spellings
void list_models(Service& service, Call call);
void get_model(Service& service, Call call);
void list_lora(Service& service, Call call);
void post_lora(Service& service, Call call);
void post_load_vllm(Service& service, Call call);
void post_unload_vllm(Service& service, Call call);
void post_load_sglang(Service& service, Call call);
void post_unload_sglang(Service& service, Call call);

// completions.cpp
void post_chat(Service& service, Call call);
void post_completion(Service& service, Call call);

// responses.cpp
void post_response(Service& service, Call call);
void get_response(Service& service, Call call);
void delete_response(Service& service, Call call);
void post_response_action(Service& service, Call call);

// messages.cpp
void post_messages(Service& service, Call call);
void post_count_tokens(Service& service, Call call);

// embeddings.cpp
void post_embeddings(Service& service, Call call);

// scores.cpp
void post_score(Service& service, Call call);

// decisions.cpp
void post_decisions(Service& service, Call call);
void post_system_one(Service& service, Call call);

// ollama.cpp: Ollama's protocol
void post_ollama_chat(Service& service, Call call);
void post_ollama_generate(Service& service, Call call);
void post_ollama_embed(Service& service, Call call);
void post_ollama_embeddings(Service& service, Call call);
// ollama_models.cpp
void get_ollama_version(Service& service, Call call);
void get_ollama_tags(Service& service, Call call);
void get_ollama_running(Service& service, Call call);
void post_ollama_show(Service& service, Call call);
void refuse_ollama(Service& service, Call call);  // what changes the models that are there

// text_tools.cpp
void post_tokenize(Service& service, Call call);
void post_detokenize(Service& service, Call call);
void post_apply_template(Service& service, Call call);

}  // namespace loraine
