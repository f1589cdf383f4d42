/** Read without anybody having asked for it, if it is there. */
export const DEFAULT_CONFIG = '/etc/pointsman/pointsman.yaml'
