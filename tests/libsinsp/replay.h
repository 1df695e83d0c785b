#pragma once

#include <plugin/plugin_api.h>

// The source plugin `replay`: its open parameter is the path of a file of raw events.
const plugin_api *replay_plugin();
