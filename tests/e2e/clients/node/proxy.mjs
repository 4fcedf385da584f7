// fetch of Node below 24 knows no HTTPS_PROXY by itself.
import { EnvHttpProxyAgent, setGlobalDispatcher } from "undici";

setGlobalDispatcher(new EnvHttpProxyAgent());
