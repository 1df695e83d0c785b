// A source plugin inside the driver, which plays back a file of raw events: headers and parameters just as they stand
// in memory, one event after another.
//
// It hands on whatever an event says of itself, right or wrong: what the engine makes of it is the question. Only the
// length is checked, since it tells where the next event starts.
#include "replay.h"

#include <cerrno>
#include <cstdint>
#include <cstring>
#include <fstream>
#include <iterator>
#include <string>
#include <vector>

namespace {

struct replay {
    std::string error;
    std::vector<char> bytes;
    size_t end = 0;
    size_t next = 0;
    ss_plugin_event *event = nullptr;
};

// There is one inspector and one capture in a run, so the plugin and its open instance are one object.
replay *of(void *plugin) { return static_cast<replay *>(plugin); }

ss_plugin_t *init(const ss_plugin_init_input *, ss_plugin_rc *rc) {
    *rc = SS_PLUGIN_SUCCESS;
    return reinterpret_cast<ss_plugin_t *>(new replay);
}

void destroy(ss_plugin_t *plugin) { delete of(plugin); }

ss_instance_t *open(ss_plugin_t *plugin, const char *path, ss_plugin_rc *rc) {
    replay *self = of(plugin);
    std::ifstream file(path, std::ios::binary);
    if (!file) {
        self->error = std::string(path) + ": " + std::strerror(errno);
        *rc = SS_PLUGIN_FAILURE;
        return nullptr;
    }
    self->bytes.assign(std::istreambuf_iterator<char>(file), {});
    self->end = self->bytes.size();
    self->next = 0;
    // The engine reads the first byte of a parameter before it looks at its length. Behind an empty one at the very
    // end there must be a byte to read.
    self->bytes.push_back(0);
    *rc = SS_PLUGIN_SUCCESS;
    return reinterpret_cast<ss_instance_t *>(self);
}

void close(ss_plugin_t *, ss_instance_t *) {}

ss_plugin_rc next_batch(ss_plugin_t *plugin, ss_instance_t *, uint32_t *events, ss_plugin_event ***batch) {
    replay *self = of(plugin);
    size_t left = self->end - self->next;
    *events = 0;
    if (left == 0) {
        return SS_PLUGIN_EOF;
    }
    ss_plugin_event header{};
    std::memcpy(&header, self->bytes.data() + self->next, left < sizeof header ? left : sizeof header);
    if (header.len < sizeof header || header.len > left) {
        self->error = "the event at byte " + std::to_string(self->next) + " says that it has " +
                      std::to_string(header.len) + " bytes, where " + std::to_string(left) + " are left";
        return SS_PLUGIN_FAILURE;
    }
    self->event = reinterpret_cast<ss_plugin_event *>(self->bytes.data() + self->next);
    self->next += header.len;
    *events = 1;
    *batch = &self->event;
    return SS_PLUGIN_SUCCESS;
}

plugin_api make_api() {
    plugin_api api{};
    api.get_required_api_version = [] { return PLUGIN_API_VERSION_STR; };
    api.get_name = [] { return "replay"; };
    api.get_description = [] { return "plays back a file of raw events"; };
    api.get_contact = [] { return "the creance project"; };
    api.get_version = [] { return "0.1.0"; };
    api.get_last_error = [](ss_plugin_t *plugin) { return of(plugin)->error.c_str(); };
    api.init = init;
    api.destroy = destroy;
    // Id 0 and no event source: the plugin may hand out any event of a system call.
    api.get_id = []() -> uint32_t { return 0; };
    api.get_event_source = [] { return ""; };
    api.open = open;
    api.close = close;
    api.next_batch = next_batch;
    return api;
}

}  // namespace

const plugin_api *replay_plugin() {
    static const plugin_api api = make_api();
    return &api;
}
